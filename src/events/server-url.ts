/** A NATS server, and the login that its URL may carry. */
export interface ServerUrl {
  host: string;
  port: number;
  secure: boolean;
  user?: string;
  password?: string;
}

const hostName = /^[\w-]+(\.[\w-]+)*\.?$/;

/** Reads `nats://host:4222`, `tls://…` or `host:port`; undefined when it is none of them. */
export function readServerUrl(text: string): ServerUrl | undefined {
  try {
    const url = new URL(/^\w+:\/\//.test(text) ? text : `nats://${text}`);
    const { protocol, hostname, username, password, pathname, search, hash } = url;
    const port = url.port === "" ? 4222 : Number(url.port);
    // The URL parser takes tabs and line ends out, and an unescaped `#`, `?` or `/` for the end of what may be a password.
    if (/\s/.test(text) || !["", "/"].includes(pathname) || search !== "" || hash !== "" || port === 0)
      return undefined;
    if (!["nats:", "tls:"].includes(protocol) || (username === "" && password !== "")) return undefined;
    const host = hostname.replace(/^\[|\]$/g, "");
    // Brackets hold an IPv6 address, or the URL parser had refused it.
    if (host === hostname && !hostName.test(host)) return undefined;
    const login = username !== "" && { user: decodeURIComponent(username), password: decodeURIComponent(password) };
    return { host, port, secure: protocol === "tls:", ...login };
  } catch {
    return undefined;
  }
}

/** For messages: nothing up to the last login in it is shown, however it is written. */
export const withoutLogin = (text: string): string => text.replace(/^(\w+:\/\/)?.*@/s, "$1***@");

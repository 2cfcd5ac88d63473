/** Where things are inside a sandbox. */
export const guestMount = "/.chorus";
export const guestPath = `${guestMount}/guest`;
export const paths = { workdir: "/workspace", tmp: "/tmp", run: "/run/chorus" } as const;

/**
 * Bytes of a base64 text (RFC 4648, section 4), with or without padding and line breaks.
 * @returns undefined for anything else
 */
export function bytesOfBase64(text: string): Buffer | undefined {
  const digits = text.replace(/\s+/g, "");
  if (!/^[A-Za-z0-9+/]*={0,2}$/.test(digits)) return undefined;
  const isWhole = digits.endsWith("=") ? digits.length % 4 === 0 : digits.length % 4 !== 1;
  return isWhole ? Buffer.from(digits, "base64") : undefined;
}

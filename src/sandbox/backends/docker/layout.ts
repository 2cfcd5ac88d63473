/** Where things are inside a sandbox. */
export const guestMount = "/.chorus";
export const guestPath = `${guestMount}/guest`;
export const paths = { workdir: "/workspace", tmp: "/tmp", run: "/run/chorus" } as const;

const marker = "-complete";

/** Name of the volume with a guest, after its content. */
export const guestVolumeName = (hash: string, arch: string): string => `chorus-guest-${hash.slice(0, 12)}-${arch}`;
/** The empty volume that says another one is complete. */
export const markerOf = (volume: string): string => `${volume}${marker}`;
/** The volume with the guest, from its own name or its marker's. */
export const guestVolumeOf = (name: string): string => (name.endsWith(marker) ? name.slice(0, -marker.length) : name);
export const guestArchOf = (volume: string): string => volume.slice(volume.lastIndexOf("-") + 1);

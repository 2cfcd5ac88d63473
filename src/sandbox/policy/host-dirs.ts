/** A folder of the host, open to uploads (`ro`) or to both directions (`rw`). */
export interface HostDir {
  path: string;
  mode: "ro" | "rw";
}

const beneath = (outer: string, inner: string): boolean =>
  inner === outer || inner.startsWith(outer === "/" ? "/" : `${outer}/`);

const innermost = (dirs: readonly HostDir[], path: string): HostDir | undefined =>
  dirs.filter((dir) => beneath(dir.path, path)).sort((a, b) => b.path.length - a.path.length)[0];

/**
 * Pure: the folders the environment opens, held under the policy's. Each must lie within a folder of the policy that allows as
 * much; folders the policy allows less further in are taken out of it again. Undefined as ceiling: the environment alone decides.
 */
export function underCeiling(
  open: readonly HostDir[],
  ceiling: readonly HostDir[] | undefined,
): { dirs: HostDir[]; beyond: HostDir[] } {
  if (ceiling === undefined) return { dirs: [...open], beyond: [] };
  const allowed = (dir: HostDir): boolean => {
    const limit = innermost(ceiling, dir.path);
    return limit !== undefined && (limit.mode === "rw" || dir.mode === "ro");
  };
  const dirs = open.filter(allowed);
  const narrowed = ceiling.filter(
    (limit) =>
      limit.mode === "ro" && innermost(dirs, limit.path)?.mode === "rw" && !dirs.some((dir) => dir.path === limit.path),
  );
  return { dirs: [...dirs, ...narrowed], beyond: open.filter((dir) => !allowed(dir)) };
}

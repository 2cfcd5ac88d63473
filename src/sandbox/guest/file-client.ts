import { quoted } from "../../errors.ts";
import { frame, framedType, maxHeaderBytes, nonsense, parseJson, unframe } from "./framing.ts";
import { cap, get, query, send } from "./requests.ts";
import * as schemas from "./schemas.ts";
import type { GuestSession } from "./session.ts";
import type { FileManage, FileReadAnswer, FileReadRequest, FileSearch, FileTell, FileToWrite } from "./types.ts";

/** How long the guest takes for what goes through many files. */
const searchMs = 10_000;
const manageMs = 40_000;

/** The part of a guest's client that has to do with files. */
export class GuestFiles {
  readonly #session: GuestSession;

  constructor(session: GuestSession) {
    this.#session = session;
  }

  async readFile(request: FileReadRequest, signal?: AbortSignal): Promise<FileReadAnswer> {
    const what = `read of ${quoted(request.path)}`;
    const maxBytes = maxHeaderBytes + request.max_bytes;
    const answer = await this.#session.ask(get(what, `/v1/files/read${query({ ...request })}`, { maxBytes, signal }));
    const { header, bytes } = unframe(what, schemas.fileHeader, answer);
    const { len, ...rest } = header;
    if (len !== bytes.length) throw nonsense(what, "the length it tells is not that of the content");
    if (len > request.max_bytes) throw nonsense(what, "it is longer than was asked for");
    return { ...rest, bytes };
  }

  async writeFiles(files: FileToWrite[], tell?: FileTell, signal?: AbortSignal) {
    const what = files.length === 1 ? `write of ${quoted(files[0]?.path ?? "")}` : `write of ${files.length} files`;
    const header = { files: files.map(({ bytes, ...file }) => ({ ...file, len: bytes.length })), tell };
    const contents = files.map(({ bytes }) => bytes);
    const maxBytes = cap.small + files.length * cap.perEntry + cap.facts;
    const answer = await this.#session.askJson(
      {
        what,
        method: "POST",
        path: "/v1/files/write",
        body: frame(header, contents),
        contentType: framedType,
        maxBytes,
        signal,
      },
      schemas.written,
    );
    if (answer.files.length !== files.length) throw nonsense(what, "it tells of other files than were sent");
    return answer;
  }

  async listFiles(
    request: { path: string; depth: number; glob?: string; limit: number; cursor?: string },
    signal?: AbortSignal,
  ) {
    const what = `a list of ${quoted(request.path)}`;
    const maxBytes = cap.medium + request.limit * cap.perEntry;
    const question = get(what, `/v1/files/list${query({ ...request })}`, { maxBytes, signal });
    const listing = await this.#session.askJson(question, schemas.listing);
    if (listing.entries.length > request.limit) throw nonsense(what, "it has more entries than were asked for");
    return listing;
  }

  stat(path: string, signal?: AbortSignal) {
    const question = get(`stat of ${quoted(path)}`, `/v1/files/stat${query({ path })}`, {
      maxBytes: cap.medium,
      signal,
    });
    return this.#session.askJson(question, schemas.stat);
  }

  async searchFiles(search: FileSearch, signal?: AbortSignal) {
    const what = `search for ${quoted(search.pattern, 100)}`;
    const maxBytes = cap.medium + search.limit * cap.perEntry;
    const question = send("POST", what, "/v1/files/search", search, { maxBytes, waitMs: searchMs, signal });
    const found = await this.#session.askJson(question, schemas.found);
    if (found.matches.length > search.limit) throw nonsense(what, "it has more matches than were asked for");
    return found;
  }

  manageFiles(manage: FileManage, tell?: FileTell, signal?: AbortSignal) {
    const what = `${manage.op} of ${quoted(manage.path)}`;
    const options = { maxBytes: cap.small + cap.facts, waitMs: manageMs, signal };
    const question = send("POST", what, "/v1/files/manage", { ...manage, tell }, options);
    return this.#session.askJson(question, schemas.managed);
  }

  putTar(path: string, archive: AsyncIterable<Buffer>, signal?: AbortSignal) {
    const what = `upload to ${quoted(path)}`;
    const target = `/v1/files/tar${query({ path })}`;
    const maxBytes = cap.medium + 200 * cap.perEntry;
    return this.#session.upload(
      { what, method: "PUT", path: target, contentType: "application/x-tar", maxBytes, signal },
      archive,
      schemas.extracted,
    );
  }

  async *getTar(
    request: { path: string; include: readonly string[]; exclude: readonly string[] },
    leftOut: (path: string, why: string) => void,
    signal?: AbortSignal,
  ): AsyncGenerator<Buffer> {
    const { path, include, exclude } = request;
    const what = `download of ${quoted(path)}`;
    const target = `/v1/files/tar${query({ path, include, exclude })}`;
    let trailer: string | undefined;
    yield* this.#session.download(get(what, target, { maxBytes: Number.MAX_SAFE_INTEGER, signal }), (trailers) => {
      trailer = String(trailers["guest-left-out"] ?? "") || undefined;
    });
    if (trailer === undefined) return;
    const { paths, total } = parseJson(what, schemas.leftOut, Buffer.from(trailer));
    for (const one of paths) leftOut(one.path, one.why);
    if (total > paths.length) leftOut("…", `and ${total - paths.length} more`);
  }
}

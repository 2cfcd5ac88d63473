import { describe, expect, it } from "vitest";
import { redact, redactCommand } from "../../src/sandbox/redact.ts";

describe("redactCommand hides", () => {
  it.each([
    // URLs
    ["git clone https://me:s3cret@example.org/x.git", "git clone https://***@example.org/x.git"],
    ["git clone https://0123456789abcdef0123@github.com/a/b", "git clone https://***@github.com/a/b"],
    ["git clone https://hf_x@huggingface.co/a", "git clone https://***@huggingface.co/a"],
    ["curl https://u:pa/ss@host/x", "curl https://***@host/x"],
    ["curl https://u:p@ss@host/x", "curl https://***@host/x"],
    ["run amqp://u:p@h1,amqp://u:p@h2", "run amqp://***@h1,amqp://***@h2"],
    ["psql postgres://me:s%40c@h:5432/db", "psql postgres://***@h:5432/db"],
    ["curl 'https://h/p?key=abc&x=1'", "curl 'https://h/p?key=***&x=1'"],
    ["curl 'https://h/p?a=1&sig=ab%2F&se=2'", "curl 'https://h/p?a=1&sig=***&se=2'"],
    ["curl 'https://h/p?X-Amz-Signature=abc'", "curl 'https://h/p?X-Amz-Signature=***'"],
    ["curl 'https://h/p?access_token=abc'", "curl 'https://h/p?access_token=***'"],
    // headers
    ["curl -H 'Authorization: Bearer abc.def' http://h", "curl -H 'Authorization: Bearer ***' http://h"],
    ["curl -H 'Authorization: abc' h", "curl -H 'Authorization: ***' h"],
    ["curl -H 'X-Api-Key: abc' h", "curl -H 'X-Api-Key: ***' h"],
    ["curl -H 'PRIVATE-TOKEN: abc' h", "curl -H 'PRIVATE-TOKEN: ***' h"],
    ['curl -H"Token: a b" h', 'curl -H"Token: ***" h'],
    ["curl -H X-Api-Key:abc h", "curl -H X-Api-Key:*** h"],
    ["wget --header='X-Auth-Token: abc' h", "wget --header='X-Auth-Token: ***' h"],
    ["http h 'X-Client-Secret: abc'", "http h 'X-Client-Secret: ***'"],
    // name and password
    ["curl -u user:pw https://h", "curl -u user:*** https://h"],
    ["curl -uuser:pw h", "curl -uuser:*** h"],
    ["curl --user me@example.org:pw h", "curl --user me@example.org:*** h"],
    ['curl --user="user:pa ss" h', 'curl --user="user:***" h'],
    ["curl -u :pat h", "curl -u :*** h"],
    ["mysql -uroot -phunter2 db", "mysql -uroot -p*** db"],
    ["docker exec c mysqldump -u root -p'hun ter' db | gzip", "docker exec c mysqldump -u root -p*** db | gzip"],
    // options and variables
    ["tool --token=abcd --password hunter2 -v", "tool --token=*** --password *** -v"],
    ["tool --api-key 'a b c' x", "tool --api-key *** x"],
    ["tool --client-secret x -v", "tool --client-secret *** -v"],
    ["tool --db-password x -v", "tool --db-password *** -v"],
    ["tool --password 'it'\\''s me' -v", "tool --password *** -v"],
    ["tool --password a\\ b -v", "tool --password *** -v"],
    ['["tool", "--password", "a b"]', '["tool", "--password", ***]'],
    ["AWS_SECRET_ACCESS_KEY=abc run", "AWS_SECRET_ACCESS_KEY=*** run"],
    ["GITHUB_TOKEN=x ls", "GITHUB_TOKEN=*** ls"],
    ["DB_PASS='a b' MYSQL_PWD=x run", "DB_PASS=*** MYSQL_PWD=*** run"],
    // JSON and programs
    [`curl -d '{"password":"a b","n":1}' h`, `curl -d '{"password":"***","n":1}' h`],
    [`curl -d "{\\"password\\": \\"a b\\", \\"n\\":1}" h`, `curl -d "{\\"password\\": \\"***\\", \\"n\\":1}" h`],
    [`node -e "f({Authorization: 'Bearer a'})"`, `node -e "f({Authorization: ***})"`],
    [`python -c "api_key = 'a b'; f()"`, `python -c "api_key = '***'; f()"`],
    // tokens by their form
    [`echo ghp_${"a".repeat(36)}`, "echo ***"],
    [`echo sk-${"b".repeat(24)}`, "echo ***"],
  ])("%s", (command, shown) => {
    expect(redactCommand(command)).toBe(shown);
  });

  it.each([
    ["curl https://u:secr…", "curl https://***…"],
    ["curl https://0123456789…", "curl https://***…"],
    ["tool --password 'a b…", "tool --password ***"],
    ["echo ghp_abc…", "echo ***…"],
  ])("what was cut off before its end: %s", (command, shown) => {
    expect(redactCommand(command)).toBe(shown);
  });

  it("what its own cut would split", () => {
    expect(redactCommand(`${"x".repeat(250)} https://u:secret@h/`)).not.toContain("u:");
    const hidden = `tool --token '${"t".repeat(2_018)}' https://u:secret@h/`;
    expect(redactCommand(hidden)).toBe("tool --token *** https://***…");
  });
});

it.each([
  ...["echo hello", "python3 -m pytest -q", "grep -r token .", "cat secrets.txt", "make KEY=1", "OLDPWD=/x ls"],
  ...["ls --author", "git log --author=me", 'git commit -m "auth: fix login"', "psql --no-password db"],
  ...["tool --key-file x --token-file y --password-stdin", `curl -d '{"max_tokens": 100, "author": "me"}' h`],
  ...["git clone git@github.com:a/b", "git push -u git@github.com:a/b main", "git push -u https://github.com/a/b main"],
  ...["git push -u origin HEAD:main", "ssh user@host ls", "scp a user@host:/x", "rsync -a a user@host:/b"],
  ...["docker run -u 1000:1000 -p 8080:80 x", "docker run --name mysql -p3306:3306 mysql:8", "mkdir -pv a/mysql"],
  ...["mysql -u root -p -P3306 -e 'select 1'", "find /var/lib/mysql -print", "date -u +%H:%M", "date -u '+%H:%M'"],
  ...["curl http://localhost:8080/@vite/client", "curl https://unpkg.com/react@18/x.js", "curl http://[::1]:80/a@b"],
  ...["curl -H 'Accept: text/html' https://example.org/?a=1&b=2", "curl https://example.org/abc…"],
])("leaves %s alone", (command) => {
  expect(redactCommand(command)).toBe(command);
});

it("is at most 256 characters, whatever comes in", () => {
  expect(redactCommand("x".repeat(1_000_000)).length).toBe(256);
});

/** Quadratic patterns take minutes for these; linear ones, milliseconds. */
it.each([
  ...[
    "a@",
    "a@a@a@",
    "a://b:",
    "://x:@",
    "://",
    "-",
    "--token ",
    "-H ",
    "-H key",
    "-u a",
    "-u :",
    "mysql ",
    "mysql -",
    " ",
  ],
  ...['"', "'", "'\\''", "\\", '--token "', '"key:', "key-", "key:  ", 'password":', 'token="\\', "authorization: "],
  ...["token", "TOKEN_", "?a-", "eyJ-", "eyJaaaaaaaaaaaa.", "sk-", "ghp_…", "a.", "x-key", "'x-"],
])("takes time in proportion to the text: %j", (piece) => {
  const text = piece.repeat(Math.ceil(100_000 / piece.length));
  const started = performance.now();
  redact(text);
  expect(performance.now() - started).toBeLessThan(1_500);
});

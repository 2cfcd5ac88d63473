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
    ["curl -u 'user':'pw' h", "curl -u 'user':*** h"],
    ["curl -sSu user:pw h", "curl -sSu user:*** h"],
    ['curl -u user:"p w" h', "curl -u user:*** h"],
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
    ["SSHPASS=x sshpass -e ssh -p 22 h", "SSHPASS=*** sshpass -e ssh -p 22 h"],
    ["export CREDENTIALS=x DB_CREDENTIAL=y", "export CREDENTIALS=*** DB_CREDENTIAL=***"],
    ["PASSPHRASE=x PRIVATE_KEY=y ACCESS_KEY=z run", "PASSPHRASE=*** PRIVATE_KEY=*** ACCESS_KEY=*** run"],
    ["AUTH=x SESSION_TOKEN=y PGPASSWORD=z run", "AUTH=*** SESSION_TOKEN=*** PGPASSWORD=*** run"],
    ["docker run -e DB_PWD=x -e GH_PAT=y -e DB_PW=z i", "docker run -e DB_PWD=*** -e GH_PAT=*** -e DB_PW=*** i"],
    ["ENCRYPTION_KEY=x ROOTPASS=y SESSION_COOKIE=z run", "ENCRYPTION_KEY=*** ROOTPASS=*** SESSION_COOKIE=*** run"],
    ["set -gx API_TOKEN x && setenv DB_PASSWORD 'a b'", "set -gx API_TOKEN *** && setenv DB_PASSWORD ***"],
    ["wget --password=x h", "wget --password=*** h"],
    ["keytool -list -storepass x -v", "keytool -list -storepass *** -v"],
    ["tailscale up --authkey x", "tailscale up --authkey ***"],
    ["curl --oauth2-bearer x h", "curl --oauth2-bearer *** h"],
    ["tool '--password=a b' -v", "tool '--password=***' -v"],
    ["docker run -e 'DB_PASSWORD=a b' i", "docker run -e 'DB_PASSWORD=***' i"],
    ["sh -c 'TOKEN=x ls' && ls", "sh -c 'TOKEN=*** ls' && ls"],
    // options of some programs
    ["sshpass -p x ssh -p 22 h", "sshpass -p *** ssh -p 22 h"],
    ["sshpass -px scp a h:", "sshpass -p*** scp a h:"],
    ["sshpass -v -p 'a b' ssh h", "sshpass -v -p *** ssh h"],
    ["docker login -u me -p x r.io", "docker login -u me -p *** r.io"],
    ["docker login \\\n -u me \\\n -p x", "docker login \\\n -u me \\\n -p ***"],
    ["sudo podman login -px -u me", "sudo podman login -p*** -u me"],
    ["helm registry login r.io -u me -p 'a b'", "helm registry login r.io -u me -p ***"],
    ["oc login h -u me -p x", "oc login h -u me -p ***"],
    ["az acr login -n r -u me -p x", "az acr login -n r -u me -p ***"],
    ["vault login x", "vault login ***"],
    ["vault login -no-print x && ls", "vault login -no-print *** && ls"],
    ["vault login -method=userpass username=me password=x", "vault login -method=userpass username=me password=***"],
    ["redis-cli -h r -a x ping", "redis-cli -h r -a *** ping"],
    ["ls -a; X=$(redis-cli -a 'a b' get k)", "ls -a; X=$(redis-cli -a *** get k)"],
    ["mongosh -u me -p x db", "mongosh -u me -p *** db"],
    ["mongo -p'x y' && mongodump --port 1 -px", "mongo -p*** && mongodump --port 1 -p***"],
    ["http -a me:x GET h", "http -a *** GET h"],
    ["openssl rsa -in k -passin pass:x -passout 'pass:a b'", "openssl rsa -in k -passin *** -passout ***"],
    ["openssl enc -aes-256-cbc -pass pass:x -k y", "openssl enc -aes-256-cbc -pass *** -k ***"],
    ["zip -r -P x a.zip d; unzip -oP 'a b' a.zip", "zip -r -P *** a.zip d; unzip -oP *** a.zip"],
    ["7z x -px -oout a.7z", "7z x -p*** -oout a.7z"],
    ["/usr/bin/mysqldump -u root -px db", "/usr/bin/mysqldump -u root -p*** db"],
    ["ldapsearch -x -D cn=me -w x -b dc=a", "ldapsearch -x -D cn=me -w *** -b dc=a"],
    ["smbclient //h/s -U me%x -c ls", "smbclient //h/s -U me%*** -c ls"],
    ["smbclient //h/s -U 'me%a b'", "smbclient //h/s -U 'me%***'"],
    ["mysql '-pa$b' db", "mysql '-p***' db"],
    ["gh secret set A --body x", "gh secret set A --body ***"],
    ["sqlcmd -S h -U sa -P x", "sqlcmd -S h -U sa -P ***"],
    ["lftp -u me,x h", "lftp -u me,*** h"],
    ["echo 'machine h login u password x' > .netrc", "echo 'machine h login u password ***' > .netrc"],
    ["printf 'login u\\npassword x\\n' > f", "printf 'login u\\npassword ***' > f"],
    ["aws configure set aws_secret_access_key x", "aws configure set aws_secret_access_key ***"],
    ["aws configure set --profile p aws_session_token x", "aws configure set --profile p aws_session_token ***"],
    ["npm config set //r.io/:_authToken x", "npm config set //r.io/:_authToken ***"],
    ["echo //r.io/:_authToken=x >> .npmrc", "echo //r.io/:_authToken=*** >> .npmrc"],
    ["npm config set '//r.io/:_authToken' 'x' -g", "npm config set '//r.io/:_authToken' *** -g"],
    ["npm set //r.io/:_authToken x", "npm set //r.io/:_authToken ***"],
    ["git -C d config --global user.password x", "git -C d config --global user.password ***"],
    ["poetry config pypi-token.pypi x", "poetry config pypi-token.pypi ***"],
    // cookies
    ["curl -b session=x h", "curl -b *** h"],
    ["curl -b 'a=x; b=y' h", "curl -b *** h"],
    ["curl -sb session=x h", "curl -sb *** h"],
    ["curl --cookie session=x h", "curl --cookie *** h"],
    ['curl --cookie="session=x" h', "curl --cookie=*** h"],
    // what is read from stdin
    ["echo x | docker login -u me --password-stdin", "echo *** | docker login -u me --password-stdin"],
    ["echo -n 'a|b;c' | docker login --password-stdin", "echo *** | docker login --password-stdin"],
    ["printf '%s\\n' \"a b\"|\\\n gh auth login --with-token", "printf *** |\\\n gh auth login --with-token"],
    ["ls; echo x | base64 -d | gh auth login --with-token", "ls; echo *** | base64 -d | gh auth login --with-token"],
    ["echo x | sudo -S ls; echo y", "echo *** | sudo -S ls; echo y"],
    ["echo x | sudo --stdin ls", "echo *** | sudo --stdin ls"],
    ["echo root:x | chpasswd", "echo *** | chpasswd"],
    ["gh auth login --with-token <<< x && ls", "gh auth login --with-token <<< *** && ls"],
    ["docker login --password-stdin r.io <<<'a b'", "docker login --password-stdin r.io <<<***"],
    // JSON and programs
    [`curl -d '{"password":"a b","n":1}' h`, `curl -d '{"password":"***","n":1}' h`],
    [`curl -d "{\\"password\\": \\"a b\\", \\"n\\":1}" h`, `curl -d "{\\"password\\": \\"***\\", \\"n\\":1}" h`],
    [`node -e "f({Authorization: 'Bearer a'})"`, `node -e "f({Authorization: ***})"`],
    [`python -c "api_key = 'a b'; f()"`, `python -c "api_key = '***'; f()"`],
    [`python -c "os.environ['API_TOKEN']='x'"`, `python -c "os.environ['API_TOKEN']='***'"`],
    [`python -c 'os.environ["API_TOKEN"] = "x y"'`, `python -c 'os.environ["API_TOKEN"] = "***"'`],
    [`node -e "process.env.API_TOKEN = 'x'"`, `node -e "process.env.API_TOKEN = '***'"`],
    [`ruby -e "f('password' => 'x')"`, `ruby -e "f('password' => '***')"`],
    [`psql -c "alter user u with password 'x'"`, `psql -c "alter user u with password '***'"`],
    [`mysql -e "create user u identified by 'x'"`, `mysql -e "create user u identified by '***'"`],
    // YAML and INI
    ["echo 'password = x' > .my.cnf", "echo 'password = ***' > .my.cnf"],
    ["echo 'password: x' > c.yml", "echo 'password: ***' > c.yml"],
    ["printf 'db:\\n  db_password: a b\\n  n: 1\\n'", "printf 'db:\\n  db_password: ***\\n  n: 1\\n'"],
    ["cat > c.yml <<E\n- api_key: a b\n  n: 1\nE", "cat > c.yml <<E\n- api_key: ***\n  n: 1\nE"],
    // private keys
    [
      "echo '-----BEGIN OPENSSH PRIVATE KEY-----\nab+\ncd=\n-----END OPENSSH PRIVATE KEY-----' > k",
      "echo '-----BEGIN OPENSSH PRIVATE KEY-----***-----END OPENSSH PRIVATE KEY-----' > k",
    ],
    ["echo '-----BEGIN PRIVATE KEY-----\nab'", "echo '-----BEGIN PRIVATE KEY-----***"],
  ])("%s", (command, shown) => {
    expect(redactCommand(command)).toBe(shown);
  });

  /** In two parts, so that nobody takes this file for one that leaks. */
  it.each([
    ...["ghp_", "gho_", "ghu_", "ghs_", "ghr_", "npm_", "hf_", "sk_live_", "sk_test_", "rk_live_", "whsec_"],
    ...["dop_v1_", "shpat_"],
    ...["github_pat_", "dckr_pat_", "glpat-", "sk-", "sk-proj-", "sk-ant-", "xoxa-", "xoxb-", "xoxp-", "xoxr-"],
    ...["xoxs-"],
    ...["AIza", "ya29.", "hvs.", "AGE-SECRET-KEY-1", "pypi-AgE", "SG.", "eyJ"],
  ])("what looks like the token %s…", (form) => {
    const dotted = { "SG.": `.${"b".repeat(22)}`, eyJ: `.${"b".repeat(22)}.${"c".repeat(22)}` }[form] ?? "";
    expect(redactCommand(`echo ${form}${"a".repeat(36)}${dotted} x`)).toBe("echo *** x");
    expect(redactCommand(`echo ${form}a…`)).toBe("echo ***…");
  });

  it("what looks like the id of an AWS key, the seed of a NATS key, or the address of a bot", () => {
    expect(redactCommand(`curl https://h/bot12345678:AA${"a".repeat(33)}/x`)).toBe("curl https://h/***/x");
    expect(redactCommand("curl https://hooks.slack.com/services/T0/B0/x")).toBe(
      "curl https://hooks.slack.com/services/***",
    );
    expect(redactCommand(`echo AKIA${"A1".repeat(8)} ASIA${"A1".repeat(8)} SU${"A2".repeat(28)}`)).toBe(
      "echo *** *** ***",
    );
  });

  it.each([
    ["curl https://u:secr…", "curl https://***…"],
    ["curl https://0123456789…", "curl https://***…"],
    ["tool --password 'a b…", "tool --password ***"],
    ["curl -b session=x…", "curl -b ***"],
    ["docker login -u me -p x…", "docker login -u me -p ***"],
    ["echo 'machine h login u password x…", "echo 'machine h login u password ***"],
    ["echo 'password: x…", "echo 'password: ***"],
    ["echo 'a b' | docker log…", "echo *** | docker log…"],
    ["gh auth login --with-token <<< 'a b…", "gh auth login --with-token <<< ***"],
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
  ...["ssh://git@h/a", "git clone ssh://git@h:22/a", "git clone git+ssh://me@h/a", "rsync rsync://me@h/a ."],
  ...["docker run -u root:root x", "docker exec -u www-data:www-data c ls", "docker run -u 'node:node' x"],
  ...["docker exec -u 1000:1000 c ls", "python -u x:y", "python3 -u a.py"],
  ...["mkdir -p X", "cp -p a b", "ssh -p 22 h", "nc -w 5 h 1", "tar -b 20 -cf a b", "grep -a X f", "ls -a d"],
  ...["zip -r a b"],
  ...["docker ps -a | grep login", "docker compose -p web up", "docker login -u me r.io", "az login"],
  ...["podman run -p 1:1 x"],
  ...["redis-cli ping | grep -a X", "mongosh -u me -p --host h", "mongod --port 1 -v; cp -p a b", "7z x -p a.7z"],
  ...["http h a==b", "http --all h", "unzip -o a.zip; ps -P 1", "ldapsearch -W -b dc=a", "smbclient -U me //h/s"],
  ...["psql -U me db"],
  ...["sshpass -e ssh -p 22 h", "sshpass -f f ssh -p 22 h", "vault login -", "vault login -method=oidc"],
  ...["vault status"],
  ...["openssl req -key k -passin file:f", "openssl x509 -in c -noout", "git checkout -b a/b", "curl -b jar.txt h"],
  ...["sphinx-build -b html a b", "aws configure list", "npm config get registry", "git config user.name token"],
  ...["git config --get a.token"],
  ...["git config --unset a.token && ls", "cp config token.txt /x", "gh auth login --with-token -h h < f"],
  ...["echo hi | grep login"],
  ...["echo hi | docker run -i x", "echo hi | docker run -i x…", "echo hi && gh auth login --with-token"],
  ...["cat f | docker login --password-stdin"],
  ...["echo x >> /etc/passwd", "cat /etc/passwd | grep x", "sudo -u me ls", "echo hi | sudo tee f"],
  ...["echo hi | tee /etc/passwd f"],
  ...["PWD=/x ls", "GOOGLE_APPLICATION_CREDENTIALS=/k.json run", "AUTHOR=me run", "AUTH_TYPE=basic run"],
  ...["COMPASS=1 BYPASS=1 run"],
  ...["python - <<E\ntoken = load()\nsecret = a['b']\nE", "psql -c 'alter user u with superuser'"],
  ...["set -x\ntoken ls", "git commit -m 'password: say it once'", 'git commit -am "token: rename"'],
  ...["echo 'author: me' > f", "echo 'tokens: 3' > f", "echo 'see password reset' > f"],
  ...["psql -c 'select password, login from u'"],
  ...["cat <<E\n-----BEGIN PUBLIC KEY-----\nab\nE", "pip install sk-learn pypi-server", "npm_config_cache=/x npm ci"],
  ...["cat ASIA.txt"],
  ...["git push -u origin HEAD:main", "ssh user@host ls", "scp a user@host:/x", "rsync -a a user@host:/b"],
  ...["docker run -u 1000:1000 -p 8080:80 x", "docker run --name mysql -p3306:3306 mysql:8", "mkdir -pv a/mysql"],
  ...["mysql -u root -p -P3306 -e 'select 1'", "find /var/lib/mysql -print", "date -u +%H:%M", "date -u '+%H:%M'"],
  ...["curl http://localhost:8080/@vite/client", "curl https://unpkg.com/react@18/x.js", "curl http://[::1]:80/a@b"],
  ...["curl -H 'Accept: text/html' https://example.org/?a=1&b=2", "curl https://example.org/abc…"],
  ...["python - <<E\ntoken = load()\nsecret = a['b']\nE", "psql -c 'alter user u with superuser'", "curl -sS h"],
  ...["ls -lu a"],
])("leaves %s alone", (command) => {
  expect(redactCommand(command)).toBe(command);
});

it("is at most 256 characters, whatever comes in", () => {
  expect(redactCommand("x".repeat(1_000_000)).length).toBe(256);
});

/** Quadratic patterns take minutes for these; linear ones, milliseconds. */
it.each([
  ...["a@", "a@a@a@", "a://b:", "://x:@", "://", "-", "--token ", "-H ", "-H key", "-u a", "-u :", "mysql "],
  ...["mysql -", " "],
  ...['"', "'", "'\\''", "\\", '--token "', '"key:', "key-", "key:  ", 'password":', 'token="\\', "authorization: "],
  ...["token", "TOKEN_", "?a-", "eyJ-", "eyJaaaaaaaaaaaa.", "sk-", "ghp_…", "a.", "x-key", "'x-"],
  ...["-----BEGIN PRIVATE KEY-----", "-----BEGIN ", "\npassword: ", "\\npassword:", "'password: a", '" \t', "\n- a."],
  ...["sshpass ", "sshpass -P a ", "docker login ", "docker a login -", "docker login -p ", "redis-cli -", "mongo "],
  ...["zip -aaaa"],
  ...["ldapsearch ", "openssl -", "lftp -u a", "http \\", "7z ", "rar zip mongo http mysql lftp ", "-passin ", "-U a%"],
  ...["vault login -a ", "vault login ", "login a\\n", "login a password ", "-b a", "--cookie a", "set -x "],
  ...["setenv token"],
  ...["git ", "git config ", "npm config set a ", "git config token ", "aws config\t", "echo ", "echo |", "echo '"],
  ...['echo \\"'],
  ...["echo 'echo \"", "'\\''<<<echo ", "echo a|a|", "echo a|docker ", "--with-token ", "--with-token <<"],
  ...["sudo -a ", "sudo -S"],
  ...["a-token-stdin"],
  ...["SG.", "SG.aaaaaaaaaaaaaaaaaaaa.", "hvs.", "pypi-", "ssh://a:", "-u 'a':", "-u a:a", "-u 'a", "python"],
  ...["credential"],
  ...["\ntoken = a", "'--token=", "-e 'token=", "identified by '", "user a password ", "\npassword =\t"],
  ...["gh secret set "],
  ...["11111111:AA", "-sSu ", "-sSb", "eyJghp_", "hooks.slack.com/services/"],
])("takes time in proportion to the text: %j", (piece) => {
  const text = piece.repeat(Math.ceil(100_000 / piece.length));
  const started = performance.now();
  redact(text);
  expect(performance.now() - started).toBeLessThan(1_500);
});

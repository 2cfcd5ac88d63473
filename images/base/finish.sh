#!/bin/sh
# The last step of both ways to make the image, run as root inside it: npm's commands, sensible defaults, no ballast.
set -eu

ln -sf ../lib/node_modules/npm/bin/npm-cli.js /usr/local/bin/npm
ln -sf ../lib/node_modules/npm/bin/npx-cli.js /usr/local/bin/npx
git config --system init.defaultBranch main

# Proxies and passwords of the building machine's apt must not be readable in a sandbox.
rm -f /etc/apt/apt.conf.d/99mmdebstrap /etc/dpkg/dpkg.cfg.d/99mmdebstrap /etc/apt/auth.conf /etc/apt/auth.conf.d/*
for list in /etc/apt/sources.list /etc/apt/sources.list.d/*; do
  if [ -f "$list" ]; then sed -i -E 's#(//)[^/@[:space:]]+@#\1#' "$list"; fi
done

# Licences stay; manuals, translations, caches, npm's documentation and a 30 MB inspector of compiler internals go.
find /usr/share/doc -type f ! -name copyright -delete
find /usr/share/doc -type d -empty -delete
rm -rf /usr/share/man/* /usr/share/info/* /usr/share/locale/* /usr/share/lintian
rm -rf /usr/local/lib/node_modules/npm/docs /usr/local/lib/node_modules/npm/man
rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin /var/cache/apt/archives/*.deb /var/cache/debconf/*-old /var/log/*
rm -f /usr/bin/*-lto-dump-* /usr/bin/lto-dump*

# Nothing in a sandbox may become root; no-new-privileges says so too.
find / -xdev -type f -perm /6000 -exec chmod a-s {} +

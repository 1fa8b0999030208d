#!/bin/sh
# What the browser tests need: Chromium and its driver, from Debian where this may install packages.
# Where it may not, those tests say so and are skipped; with CI=true this fails, and they do.
command -v chromium > /dev/null && command -v chromedriver > /dev/null && exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get > /dev/null; then
  echo "Installing chromium and chromium-driver for the browser tests."
  export DEBIAN_FRONTEND=noninteractive
  if apt-get update -qq && apt-get install -y -qq --no-install-recommends \
    chromium chromium-driver > /dev/null; then
    exit 0
  fi
fi
echo "WARNING: no chromium and chromedriver here, and they cannot be installed:" >&2
echo "WARNING: the report will NOT be tested in a browser." >&2
[ "${CI:-}" != true ]

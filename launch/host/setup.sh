#!/usr/bin/env bash
# Makes a host of a slice ready for this checkout: an interpreter of its own, the locked packages, and the bucket as a folder.
# Called again it does only what is missing.
#
#   setup.sh [BUCKET]      BUCKET is mounted at /mnt/bucket
#
# The host is ready once ~/t5like-jobs/ready holds the number of this start of the machine: a reboot takes the mount away.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
bucket="${1:-}"
jobs="${T5LIKE_JOBS:-$HOME/t5like-jobs}"
mkdir -p "$jobs"
chmod 700 "$jobs"
rm -f "$jobs/ready"
environment="${T5LIKE_ENV:-$HOME/t5like-env}"
python_version=3.12 # which launch/tpu.lock is made for; images of TPU machines carry another
export PATH="$HOME/.local/bin:$PATH"

if ! command -v uv >/dev/null; then
  python3 -m pip install --quiet --user uv || curl --silent --show-error --fail --location https://astral.sh/uv/install.sh | sh
fi
stamp="$environment/locked-$(cksum <launch/tpu.lock | tr -d ' ')"
if [ ! -e "$stamp" ]; then
  uv venv --quiet --clear --python "$python_version" "$environment"
  uv pip sync --quiet --python "$environment/bin/python" --require-hashes launch/tpu.lock
fi
uv pip install --quiet --python "$environment/bin/python" --no-deps --editable .
touch "$stamp"

# It holds the lock of dpkg for minutes after a machine has started.
sudo -n systemctl stop unattended-upgrades 2>/dev/null || true

if [ -n "$bucket" ] && mountpoint -q /mnt/bucket && [ "$(cat "$jobs/bucket" 2>/dev/null || true)" != "$bucket" ]; then
  echo "error: another bucket than $bucket is mounted at /mnt/bucket on $(hostname); unmount it, or delete the slices" >&2
  exit 2
fi
if [ -n "$bucket" ] && ! mountpoint -q /mnt/bucket; then
  if ! command -v gcsfuse >/dev/null; then
    release="$(. /etc/os-release && echo "$VERSION_CODENAME")"
    curl --silent --show-error --fail https://packages.cloud.google.com/apt/doc/apt-key.gpg |
      sudo tee /usr/share/keyrings/cloud.google.asc >/dev/null
    echo "deb [signed-by=/usr/share/keyrings/cloud.google.asc] https://packages.cloud.google.com/apt gcsfuse-$release main" |
      sudo tee /etc/apt/sources.list.d/gcsfuse.list >/dev/null
    sudo apt-get -qq update
    sudo apt-get -qq -y install gcsfuse
  fi
  sudo mkdir -p /mnt/bucket
  sudo chown "$(id -u):$(id -g)" /mnt/bucket
  # Hosts must see at once what another has written, so nothing of names and sizes is kept.
  gcsfuse --implicit-dirs --metadata-cache-ttl-secs 0 --kernel-list-cache-ttl-secs 0 "$bucket" /mnt/bucket
  echo "$bucket" >"$jobs/bucket"
fi
cat /proc/sys/kernel/random/boot_id >"$jobs/ready"
echo "ready: $("$environment/bin/python" --version) at $environment"

"""An ordinary user, for tests that run as root: known in files of a mount namespace of its own, so that nothing of the host's
changes, and without capabilities."""
import os

USER = GROUP = 4711
# XDG_RUNTIME_DIR is /mnt: as short as where systemd has it, for paths of sockets are short (unix(7)).
BECOME = r"""
set -e
for file in passwd group subuid subgid; do
  [ -e /etc/$file ] || : >/etc/$file
  cat /etc/$file "$1/etc/$file" >"$1/etc/$file.whole"
  mount --bind "$1/etc/$file.whole" /etc/$file
done
mount --bind "$1/run" /mnt
mount --bind "$2" "$1/build"
directory=$1; shift 2
exec setpriv --reuid 4711 --regid 4711 --clear-groups --inh-caps=-all env -i PATH="$PATH" USER=ordinary HOME="$directory/home" \
  XDG_RUNTIME_DIR=/mnt "$@"
"""


def prepare(directory, owners):
    """Makes the user's home and runtime directory in `directory`. owners: with numbers for other owners in /etc/subuid."""
    for part, mode in (("etc", 0o755), ("build", 0o755), ("home", 0o700), ("run", 0o700)):
        os.makedirs(os.path.join(directory, part))
        os.chmod(os.path.join(directory, part), mode)
    for part in ("home", "run"):
        os.chown(os.path.join(directory, part), USER, GROUP)
    numbers = "ordinary:300000:65536\n" if owners else ""
    for file, text in (("passwd", f"ordinary:x:{USER}:{GROUP}::{directory}/home:/bin/sh\n"), ("group", f"ordinary:x:{GROUP}:\n"),
                       ("subuid", numbers), ("subgid", numbers)):
        with open(os.path.join(directory, "etc", file), "w") as out:
            out.write(text)


def as_user(directory, build, *command):
    """The command line that runs `command` as that user, who finds what is below the directory `build`, which may be in one
    that is closed to others, below DIRECTORY/build."""
    seen = os.path.join(directory, "build")
    return ["unshare", "--mount", "sh", "-c", BECOME, "sh", directory, build, *(seen + word[len(build):] if word.startswith(build + "/") else word for word in command)]


def state(directory):
    """Where that user's steled keeps its state, and where it listens."""
    return os.path.join(directory, "home/.local/state/stele"), os.path.join(directory, "run/stele/stele.sock")


def files_of_others(directory):
    """What is left in the user's home that is somebody else's."""
    return [path for top, directories, files in os.walk(os.path.join(directory, "home")) for name in directories + files
            for path in [os.path.join(top, name)] if os.lstat(path).st_uid != USER]

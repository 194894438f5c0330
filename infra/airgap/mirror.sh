# Sourced: where this machine takes Debian's packages from.  `source_of Debian`, `source_of Debian-Security`: the mirror's
# address, or nothing where `apt-get update` has never been run.
source_of() { apt-get indextargets --format '$(REPO_URI)' "Origin: Debian" "Label: $1" | sort -u | sed 's|/*$||' | head -n 1; }

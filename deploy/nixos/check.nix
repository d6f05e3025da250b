# The configuration, once `openclaw-edge check` has nothing to say against it; else no file, and
# with it no system.
{
  lib,
  runCommand,
  # The openclaw-edge that will serve it.
  package,
  # The file.
  file,
  # What stands for `cred:NAME`, `env:NAME`, `file:/PATH` while there are no secrets.
  placeholders ? { },
  # Files that this configuration names and that are elsewhere while it is built.
  renames ? { },
}:
let
  calls = name: lib.mapAttrsToList (a: b: "${name} ${lib.escapeShellArg a} ${lib.escapeShellArg "${b}"}");
in
runCommand "edge.yaml" { } ''
  source ${./check.sh}
  ${lib.concatStringsSep "\n" (calls "placeholder" placeholders ++ calls "rename" renames)}
  check_config ${package}/bin/openclaw-edge ${file}
  cp ${file} $out
''

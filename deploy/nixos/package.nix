# openclaw-edge from this repository. aws-lc-sys and mimalloc bring their C and assembly along and
# need the C compiler alone: no cmake, no nasm, no bindgen, no perl.
{
  lib,
  rustPlatform,
}:
let
  root = ../..;
in
rustPlatform.buildRustPackage {
  pname = "openclaw-edge";
  version = (lib.importTOML (root + "/Cargo.toml")).workspace.package.version;

  # What cargo reads; a change of the documentation builds nothing. `benches` is a member of the
  # workspace, without which cargo reads none of it.
  src = lib.fileset.toSource {
    inherit root;
    fileset = lib.fileset.unions (
      map (part: root + "/${part}") [
        "Cargo.toml"
        "Cargo.lock"
        "acme"
        "benches"
        "config"
        "proxy"
      ]
    );
  };
  cargoLock.lockFile = root + "/Cargo.lock";
  cargoBuildFlags = [ "--package=proxy" "--bin=openclaw-edge" ];

  # The tests start servers and need what .ci/setup installs; .ci/run runs them.
  doCheck = false;
  doInstallCheck = true;
  installCheckPhase = ''
    runHook preInstallCheck
    $out/bin/openclaw-edge version | grep -F "$version"
    $out/bin/openclaw-edge check --config config/examples/minimal.yaml
    runHook postInstallCheck
  '';

  meta = {
    description = "Edge reverse proxy and TLS terminator";
    license = lib.licenses.asl20;
    mainProgram = "openclaw-edge";
    platforms = [ "x86_64-linux" "aarch64-linux" ];
  };
}

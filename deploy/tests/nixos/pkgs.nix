# The packages that deploy/nixos uses, as derivations that Nix can really build on a machine without
# nixpkgs, outside a sandbox. What `buildRustPackage` gives is the program `edge`, built elsewhere.
{ system ? builtins.currentSystem, edge }:
let
  lib = import ./lib.nix // {
    fileset = {
      unions = parts: parts;
      # The parts alone; one that is not there is an error.
      toSource =
        { root, fileset }:
        run "source" (
          "mkdir $out\n" + builtins.concatStringsSep "\n" (map (part: "cp -r ${part} $out/${baseNameOf part}") fileset)
        );
    };
  };
  run =
    name: script:
    derivation {
      inherit name system;
      builder = "/bin/bash";
      # Nix ends a builder that closes its output, which cp does, in whose place bash would put itself.
      args = [ "-euc" "${script}\nexit 0" ];
      PATH = "/usr/bin:/bin";
    };
in
rec {
  inherit lib;
  callPackage =
    file: args:
    let
      package = import file;
    in
    package (builtins.intersectAttrs (builtins.functionArgs package) pkgs // args);
  pkgs = {
    inherit lib callPackage coreutils;
    inherit (helpers) formats rustPlatform stdenv writeText testers;
    runCommand = name: environment: script: run name ''
      ${builtins.concatStringsSep "\n" (lib.mapAttrsToList (n: v: "export ${n}=${lib.escapeShellArg "${v}"}") environment)}
      ${script}
    '';
  };
  coreutils = run "coreutils" "mkdir -p $out/bin; ln -s /bin/kill $out/bin/kill";
  helpers = {
    writeText = builtins.toFile;
    stdenv = rec {
      hostPlatform = { };
      buildPlatform.canExecute = _: true;
    };
    # YAML that is JSON, one key a line at the top, as a builder would have it.
    formats.yaml = _: {
      type = lib.types.yaml;
      generate = name: value: builtins.toFile name (builtins.toJSON value);
    };
    rustPlatform.buildRustPackage =
      args:
      run "${args.pname}-${args.version}" ''
        cmp ${args.cargoLock.lockFile} ${args.src}/Cargo.lock
        mkdir -p $out/bin
        ln -s ${edge} $out/bin/openclaw-edge
        cd ${args.src}
        version=${args.version}
        runHook() { :; }
        ${if args.doInstallCheck then args.installCheckPhase else ":"}
      ''
      // { inherit (args) meta src version; };
    testers = {
      runNixOSTest =
        test:
        let
          nodes.edge.system.build.toplevel = "/system";
        in
        run "vm-test-${test.name}" ": ${lib.escapeShellArg (test.testScript { inherit nodes; })}; exit 1";
      testBuildFailure = _: builtins.toFile "never-built" "";
    };
  };
}

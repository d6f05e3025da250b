# Stands here, as the top level of the repository is kept small; it takes the source from `../..`, so
# it is to be named with the repository around it, which `?dir=` does:
#     git+https://git.openclaw.example/openclaw-edge?dir=deploy/nixos
{
  description = "openclaw-edge, reverse proxy and TLS terminator";

  # The package wants Rust 1.90 or newer.
  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-26.05";

  outputs =
    { self, nixpkgs }:
    let
      each = nixpkgs.lib.genAttrs [ "x86_64-linux" "aarch64-linux" ];
      pkgs = system: nixpkgs.legacyPackages.${system};
      edge = system: (pkgs system).callPackage ./package.nix { };
    in
    {
      packages = each (system: rec {
        openclaw-edge = edge system;
        default = openclaw-edge;
      });

      overlays.default = final: _: { openclaw-edge = final.callPackage ./package.nix { }; };

      nixosModules = rec {
        openclaw-edge = import ./module.nix;
        default = openclaw-edge;
      };

      # Modules of the platform's own manifests.
      kubenixModules = rec {
        openclaw-edge = import ../kubenix/openclaw-edge.nix;
        openclaw-edge-monitoring = import ../kubenix/openclaw-edge-monitoring.nix;
        default = openclaw-edge;
      };

      checks = each (system: {
        package = edge system;
        # A misspelt key is no file: the builder has to fail, and to say why.
        refused =
          let
            bad = (pkgs system).callPackage ./check.nix {
              package = edge system;
              file = (pkgs system).writeText "bad.yaml" "version: 1\nroutse: {}\n";
            };
          in
          (pkgs system).runCommand "refused" { failed = (pkgs system).testers.testBuildFailure bad; } ''
            grep -F 'did you mean `routes`?' $failed/testBuildFailure.log
            touch $out
          '';
        # Two virtual machines; wants KVM.
        vm = (pkgs system).testers.runNixOSTest (import ./test.nix { module = self.nixosModules.default; });
      });
    };
}

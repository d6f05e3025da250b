# Stands for nixpkgs where `nix flake show` and `nix flake check` evaluate deploy/nixos offline.
{
  outputs = _: {
    lib = import ./lib.nix;
    legacyPackages = builtins.listToAttrs (
      map (system: {
        name = system;
        value = (import ./pkgs.nix { inherit system; edge = "/usr/bin/openclaw-edge"; }).pkgs;
      }) [ "x86_64-linux" "aarch64-linux" ]
    );
  };
}

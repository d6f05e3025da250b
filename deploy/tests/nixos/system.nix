# A NixOS of the options that the module sets, with the machine's own `settings` in it.
{ edge, machine }:
let
  pkgs = (import ./pkgs.nix { inherit edge; }).pkgs;
  inherit (pkgs) lib;
  inherit (lib) mkOption types;
  list = type: mkOption { type = types.listOf type; default = [ ]; };
  words = mkOption { type = types.anything; };
  set = options: mkOption { type = types.attrsOf (types.submodule { inherit options; }); default = { }; };
  nixos.options = {
    assertions = list types.anything;
    boot.kernel.sysctl = mkOption { type = types.attrsOf types.anything; default = { }; };
    environment.etc = set { source = mkOption { type = types.path; }; };
    environment.systemPackages = list types.package;
    networking.firewall.allowedTCPPorts = list types.int;
    users.groups = set { };
    users.users = set {
      isSystemUser = mkOption { type = types.bool; };
      group = mkOption { type = types.str; };
      home = mkOption { type = types.str; };
      description = mkOption { type = types.str; };
    };
    systemd.services = set {
      description = mkOption { type = types.str; };
      wantedBy = list types.str;
      after = list types.str;
      wants = list types.str;
      startLimitIntervalSec = mkOption { type = types.int; };
      reloadTriggers = list types.str;
      restartTriggers = list types.str;
      serviceConfig = mkOption { type = types.attrsOf words.type; default = { }; };
    };
  };
  config = lib.evalModules {
    modules = [ nixos ../../nixos/module.nix machine ];
    args = {
      inherit lib pkgs;
      # As nixpkgs' own.
      utils.escapeSystemdExecArgs =
        args: lib.concatStringsSep " " (map (arg: builtins.replaceStrings [ "%" "$" ] [ "%%" "$$" ] (builtins.toJSON arg)) args);
    };
  };
  refused = lib.filter (one: !one.assertion) config.assertions;
in
if refused == [ ] then
  {
    inherit (config) boot networking users systemd;
    etc = builtins.mapAttrs (_: file: file.source) config.environment.etc;
    # What a switch to this system needs first.
    toplevel = pkgs.runCommand "system" { } (
      "mkdir $out\necho ${lib.escapeShellArg (builtins.toJSON config.systemd)} >$out/units\n"
      + lib.concatStringsSep "\n" (
        lib.mapAttrsToList (name: file: "cp ${file.source} $out/${builtins.baseNameOf name}") config.environment.etc
      )
    );
  }
else
  throw (lib.concatStringsSep "\n" (map (one: one.message) refused))

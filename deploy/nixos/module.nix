# NixOS: services.openclaw-edge. What each option is for, with examples: README.md beside this file.
{
  config,
  lib,
  pkgs,
  utils,
  ...
}:
let
  inherit (lib) mkDefault mkEnableOption mkIf mkOption types;
  cfg = config.services.openclaw-edge;
  yaml = pkgs.formats.yaml { };
  read = import ./settings.nix { inherit lib; };

  inStore = file: builtins.isPath file || lib.hasPrefix "${builtins.storeDir}/" (toString file);
  bySettings = cfg.configFile == null;
  # A file outside the store is the administrator's: neither checked nor copied.
  managed = bySettings || inStore cfg.configFile;
  unchecked = if bySettings then yaml.generate "edge.yaml" cfg.settings else cfg.configFile;
  checked = pkgs.callPackage ./check.nix {
    inherit (cfg) package;
    file = unchecked;
    inherit (cfg.check) placeholders;
    renames = lib.optionalAttrs managedTenants { ${tenantsInEtc} = cfg.tenantsFile; };
  };
  edgeYaml = if cfg.check.enable then checked else unchecked;
  configPath = if managed then "/etc/openclaw-edge/edge.yaml" else toString cfg.configFile;

  tenantsInEtc = "/etc/openclaw-edge/tenants.json";
  managedTenants = cfg.tenantsFile != null && inStore cfg.tenantsFile;

  program = lib.getExe' cfg.package "openclaw-edge";
  words = utils.escapeSystemdExecArgs;
in
{
  options.services.openclaw-edge = {
    enable = mkEnableOption "openclaw-edge, a reverse proxy and TLS terminator";

    package = mkOption {
      type = types.package;
      default = pkgs.openclaw-edge or (pkgs.callPackage ./package.nix { });
      defaultText = lib.literalExpression "pkgs.openclaw-edge, with the overlay; else the package of this repository";
      description = "The package that has `bin/openclaw-edge`.";
    };

    settings = mkOption {
      default = { };
      description = ''
        The configuration, key by key as in config/README.md. It is in the Nix store, which
        everybody on the machine can read: a secret stands here as `''${cred:NAME}` (see
        `credentials`), `''${file:/run/secrets/NAME}` or `''${env:NAME}`.
      '';
      example = lib.literalExpression ''
        {
          issuers.letsencrypt.directory = "https://acme-v02.api.letsencrypt.org/directory";
          upstreams.web.endpoints = [ "127.0.0.1:3000" ];
          routes.app = { hosts = [ "app.openclaw.example" ]; upstream = "web"; };
        }
      '';
      type = types.submodule {
        freeformType = yaml.type;
        options = {
          version = mkOption {
            type = types.enum [ 1 ];
            default = 1;
            description = "The version of the format.";
          };
          admin.socket = mkOption {
            type = types.str;
            default = "/run/openclaw-edge/admin.sock";
            description = "What `openclaw-edge certs`, `drain` and the like ask, as root or as the user.";
          };
        };
      };
    };

    configFile = mkOption {
      type = types.nullOr types.path;
      default = null;
      example = lib.literalExpression "./edge.yaml";
      description = ''
        A YAML file instead of `settings`. One of the Nix store (a path in the system's own
        configuration) is checked when the system is built. Another one, as a string, is read where
        it is, and must be readable for the user `openclaw-edge`.
      '';
    };

    check = {
      enable = mkOption {
        type = types.bool;
        default = pkgs.stdenv.buildPlatform.canExecute pkgs.stdenv.hostPlatform;
        defaultText = lib.literalExpression "pkgs.stdenv.buildPlatform.canExecute pkgs.stdenv.hostPlatform";
        description = "Whether a configuration that `openclaw-edge check` refuses fails the build of the system.";
      };
      placeholders = mkOption {
        type = types.attrsOf types.str;
        default = { };
        example = { "env:NODE_IP" = "192.0.2.10"; };
        description = ''
          What stands for references while the system is built, as no secret is there: by `cred:NAME`,
          `env:NAME` or `file:/PATH`. Those that are not named get what their key accepts: a line of
          htpasswd, a key, an address, else the word `placeholder`. Never a secret.
        '';
      };
    };

    credentials = mkOption {
      type = types.attrsOf types.str;
      default = { };
      example = { eab-hmac-key = "/run/secrets/eab-hmac-key"; };
      description = ''
        Secrets by name, for `''${cred:NAME}`. systemd reads the file as root at each start and
        shows a copy to this service alone. A file that is absent stops the start.
      '';
    };

    environmentFile = mkOption {
      type = types.nullOr types.str;
      default = null;
      example = "/run/secrets/openclaw-edge.env";
      description = "A file with lines `NAME=value`, for `\${env:NAME}`; read as root at each start.";
    };

    tenantsFile = mkOption {
      type = types.nullOr types.path;
      default = null;
      example = lib.literalExpression "./production.json";
      description = ''
        The registry of tenants, for `tenants.file` of `settings`. One of the Nix store becomes
        `/etc/openclaw-edge/tenants.json`; another one, as a string, is read where it is.
      '';
    };

    openFirewall = mkOption {
      type = types.bool;
      default = false;
      description = "Opens the TCP ports of all listeners in `settings`, those on loopback excepted.";
    };

    extraArgs = mkOption {
      type = types.listOf types.str;
      default = [ ];
      example = [ "--log-format" "json" ];
      description = "Further arguments of `openclaw-edge run`.";
    };
  };

  config = mkIf cfg.enable {
    assertions = [
      {
        assertion = lib.all (file: !inStore file) (
          lib.attrValues cfg.credentials ++ lib.optional (cfg.environmentFile != null) cfg.environmentFile
        );
        message = "services.openclaw-edge: credentials and environmentFile must not be in the Nix store, where everybody can read them.";
      }
      {
        assertion = bySettings -> read.missing cfg.settings cfg.credentials == [ ];
        message = "services.openclaw-edge.credentials has no ${lib.concatStringsSep ", " (read.missing cfg.settings cfg.credentials)}, which settings name as \${cred:}.";
      }
      {
        assertion = lib.all (name: builtins.match "[A-Za-z0-9_-][A-Za-z0-9._-]*" name != null) (lib.attrNames cfg.credentials);
        message = "services.openclaw-edge.credentials: a name has letters, digits, `.`, `_` and `-`, and no `.` before them.";
      }
      {
        assertion = cfg.openFirewall -> bySettings && read.unknownPorts cfg.settings == [ ];
        message = "services.openclaw-edge.openFirewall needs ports that stand in settings.listeners; otherwise use networking.firewall.allowedTCPPorts.";
      }
    ];

    services.openclaw-edge.settings = mkIf (cfg.tenantsFile != null) {
      tenants.file = mkDefault (if managedTenants then tenantsInEtc else toString cfg.tenantsFile);
    };

    environment.etc = lib.mkMerge [
      (mkIf managed { "openclaw-edge/edge.yaml".source = edgeYaml; })
      (mkIf managedTenants { "openclaw-edge/tenants.json".source = cfg.tenantsFile; })
    ];
    environment.systemPackages = [ cfg.package ];

    users.users.openclaw-edge = {
      isSystemUser = true;
      group = "openclaw-edge";
      home = "/var/lib/openclaw-edge";
      description = "openclaw-edge reverse proxy";
    };
    users.groups.openclaw-edge = { };

    # Connections in the queue of a socket that is closed go to another process on the same port.
    boot.kernel.sysctl."net.ipv4.tcp_migrate_req" = mkDefault 1;

    networking.firewall.allowedTCPPorts = mkIf cfg.openFirewall (read.ports cfg.settings);

    systemd.services.openclaw-edge = {
      description = "openclaw-edge, reverse proxy and TLS terminator";
      wantedBy = [ "multi-user.target" ];
      after = [ "network-online.target" "nss-lookup.target" ];
      wants = [ "network-online.target" ];
      # It is tried again for ever: an edge that has given up serves nobody.
      startLimitIntervalSec = 0;
      # One restart after the switch, not a stop before it: nobody answers for a shorter time.
      stopIfChanged = false;
      # A new configuration is read by the running process, but for what it would refuse.
      reloadTriggers = lib.optional managed "${edgeYaml}" ++ lib.optional managedTenants "${cfg.tenantsFile}";
      restartTriggers = lib.optional bySettings (builtins.toJSON (read.fixed cfg.settings));
      serviceConfig = import ./unit.nix // {
        # Puts every error of the file into the journal. `-`: with a broken file the process starts
        # all the same, with what it last accepted.
        ExecStartPre = "-" + words [ program "check" "--config" configPath ];
        ExecStart = words ([ program "run" "--config" configPath ] ++ cfg.extraArgs);
        # The file is read again by itself, too.
        ExecReload = "${lib.getExe' pkgs.coreutils "kill"} -HUP $MAINPID";
        LoadCredential = lib.mapAttrsToList (name: file: "${name}:${file}") cfg.credentials;
        EnvironmentFile = lib.optional (cfg.environmentFile != null) cfg.environmentFile;
      };
    };
  };
}

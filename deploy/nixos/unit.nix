# [Service] of deploy/systemd/openclaw-edge.service, line by line; why each is as it is, is said
# there. deploy/tests/nixos.sh compares the two: a change of one is a change of both.
{
  Type = "notify";
  WatchdogSec = "10s";
  User = "openclaw-edge";
  Group = "openclaw-edge";
  Restart = "always";
  RestartSec = "500ms";
  TimeoutStopSec = "20s";
  KillMode = "mixed";

  RuntimeDirectory = "openclaw-edge";
  RuntimeDirectoryMode = "0750";
  StateDirectory = "openclaw-edge";
  StateDirectoryMode = "0700";
  UMask = "0077";

  LimitNOFILE = 65536;
  LimitCORE = 0;
  TasksMax = 256;
  MemoryHigh = "384M";
  MemoryMax = "512M";
  OOMScoreAdjust = -500;

  AmbientCapabilities = "CAP_NET_BIND_SERVICE";
  CapabilityBoundingSet = "CAP_NET_BIND_SERVICE";
  NoNewPrivileges = true;

  ProtectSystem = "strict";
  ProtectHome = true;
  PrivateTmp = true;
  PrivateDevices = true;
  PrivateIPC = true;
  PrivateMounts = true;
  DevicePolicy = "closed";
  ProtectClock = true;
  ProtectHostname = true;
  ProtectKernelTunables = true;
  ProtectKernelModules = true;
  ProtectKernelLogs = true;
  ProtectControlGroups = true;
  ProtectProc = "invisible";
  RestrictAddressFamilies = "AF_INET AF_INET6 AF_UNIX";
  RestrictNamespaces = true;
  RestrictRealtime = true;
  RestrictSUIDSGID = true;
  LockPersonality = true;
  MemoryDenyWriteExecute = true;
  RemoveIPC = true;
  KeyringMode = "private";
  SystemCallArchitectures = "native";
  SystemCallFilter = [
    "@system-service"
    "~@privileged @resources @mount @swap @reboot @debug @obsolete @cpu-emulation @raw-io @module @clock"
  ];
  SystemCallErrorNumber = "EPERM";
}

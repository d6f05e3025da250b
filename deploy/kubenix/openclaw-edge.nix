# The edge in the platform's own manifests, beside ingress.nix, whose place it takes:
#
#   imports = [ ./openclaw-edge.nix ];
#
# edge.yaml, beside this file, is the configuration. The same pods as deploy/kubernetes; why they are
# as they are is said there, at each line. Leave `kubernetes.enableHashedNames` off: a hash in the
# ConfigMap's name makes every change of the configuration a rollout.
{ ... }:
let
  name = "openclaw-edge";
  namespace = "openclaw-edge";
  image = "registry.openclaw.example/openclaw-edge:0.1.0";
  # true: the node makes the state directory, and no second image is needed:
  #   systemd.tmpfiles.rules = [ "d /var/lib/openclaw-edge 0700 65532 65532 -" ];
  stateByTmpfiles = false;

  program = "/usr/bin/openclaw-edge";
  etc = "/etc/openclaw-edge";
  state = "/var/lib/openclaw-edge";
  run = "/run/openclaw-edge";
  labels = {
    "app.kubernetes.io/name" = name;
    "app.kubernetes.io/component" = "edge";
  };

  # The pod's own socket, so that a broken configuration fails no probe.
  asked.exec.command = [ program "healthcheck" "--socket" "${run}/admin.sock" ];

  # As root, with CHOWN alone: kubelet makes a hostPath as root's.
  stateOwner = {
    image = "docker.io/library/busybox:1.37.0";
    command = [
      "/bin/sh"
      "-ec"
      ''
        [ "$(stat -c %u:%g:%a "$1")" != 65532:65532:700 ] || exit 0
        chown 0:0 "$1"
        chmod 0700 "$1"
        chown 65532:65532 "$1"
      ''
      "state-owner"
      state
    ];
    securityContext = {
      runAsNonRoot = false;
      runAsUser = 0;
      runAsGroup = 0;
      allowPrivilegeEscalation = false;
      readOnlyRootFilesystem = true;
      capabilities = { drop = [ "ALL" ]; add = [ "CHOWN" ]; };
    };
    resources = {
      requests = { cpu = "10m"; memory = "8Mi"; };
      limits.memory = "32Mi";
    };
    volumeMounts.${state}.name = "state";
  };

  edge = {
    inherit image;
    imagePullPolicy = "IfNotPresent";
    command = [ program ];
    args = [ "run" "--share-ports" "--config" "${etc}/edge.yaml" ];
    env.NODE_IP.valueFrom.fieldRef.fieldPath = "status.hostIP";
    startupProbe = asked // { periodSeconds = 1; timeoutSeconds = 5; failureThreshold = 60; };
    readinessProbe = asked // { periodSeconds = 5; timeoutSeconds = 5; failureThreshold = 2; };
    livenessProbe = asked // { periodSeconds = 10; timeoutSeconds = 5; failureThreshold = 6; };
    securityContext = {
      allowPrivilegeEscalation = false;
      readOnlyRootFilesystem = true;
      capabilities = { drop = [ "ALL" ]; add = [ "NET_BIND_SERVICE" ]; };
    };
    resources = {
      requests = { cpu = "100m"; memory = "64Mi"; };
      limits.memory = "512Mi";
    };
    # No `ports`: they would be host ports, which one pod of a node may have.
    volumeMounts = {
      ${etc} = { name = "config"; readOnly = true; };
      ${state}.name = "state";
      ${run}.name = "run";
    };
  };
in
{
  kubernetes.resources.namespaces.${namespace}.metadata.labels = {
    "pod-security.kubernetes.io/enforce" = "privileged";
    "pod-security.kubernetes.io/audit" = "privileged";
    "pod-security.kubernetes.io/warn" = "privileged";
  };

  kubernetes.resources.serviceAccounts.${name} = {
    metadata = { inherit namespace labels; };
    automountServiceAccountToken = false;
  };

  kubernetes.resources.configMaps.${name} = {
    metadata = { inherit namespace labels; };
    data."edge.yaml" = builtins.readFile ./edge.yaml;
  };

  kubernetes.resources.daemonSets.${name} = {
    metadata = { inherit namespace labels; };
    spec = {
      selector.matchLabels = labels;
      updateStrategy = {
        type = "RollingUpdate";
        rollingUpdate = { maxSurge = 1; maxUnavailable = 0; };
      };
      minReadySeconds = 5;
      revisionHistoryLimit = 5;
      template = {
        metadata = { inherit labels; };
        spec = {
          serviceAccountName = name;
          automountServiceAccountToken = false;
          enableServiceLinks = false;
          hostNetwork = true;
          dnsPolicy = "ClusterFirstWithHostNet";
          priorityClassName = "system-node-critical";
          nodeSelector."kubernetes.io/os" = "linux";
          tolerations = [ { operator = "Exists"; } ];
          # drain.deadline in edge.yaml, and 15 s.
          terminationGracePeriodSeconds = 345;
          securityContext = {
            runAsNonRoot = true;
            runAsUser = 65532;
            runAsGroup = 65532;
            fsGroup = 65532;
            seccompProfile.type = "RuntimeDefault";
          };
          containers.${name} = edge;
          volumes = {
            config.configMap.name = name;
            state.hostPath = {
              path = state;
              type = if stateByTmpfiles then "Directory" else "DirectoryOrCreate";
            };
            run.emptyDir = { medium = "Memory"; sizeLimit = "1Mi"; };
          };
        } // (if stateByTmpfiles then { } else { initContainers.state-owner = stateOwner; });
      };
    };
  };
}

# Scraping and alerts of the edge, for clusters with the CRDs of the Prometheus operator: the very
# files of deploy/kubernetes. Copied elsewhere, they belong beside this file.
{ ... }:
let
  files = ../kubernetes/components/monitoring;
  operator = kind: attrName: {
    inherit kind attrName;
    group = "monitoring.coreos.com";
    version = "v1";
  };
in
{
  kubernetes.customTypes = {
    servicemonitor = operator "ServiceMonitor" "serviceMonitors";
    prometheusrule = operator "PrometheusRule" "prometheusRules";
  };
  kubernetes.imports = [
    (files + "/service.yaml")
    (files + "/servicemonitor.yaml")
    (files + "/prometheusrule.yaml")
  ];
}

# Two virtual machines: a client asks an edge over TLS while that gets a new configuration, a refused
# one, and is restarted. `nix flake check` or `nix build .#checks.x86_64-linux.vm`. It wants KVM and
# nixpkgs, so it does not run in .ci/run; deploy/tests/nixos.sh evaluates it only.
{ module }:
{
  name = "openclaw-edge";

  nodes.edge =
    { lib, pkgs, ... }:
    let
      answering = body: {
        services.openclaw-edge.settings.routes.app.respond.body = lib.mkForce body;
      };
    in
    {
      imports = [ module ];
      # Stands for what sops-nix puts there.
      systemd.tmpfiles.rules = [ "f /run/secrets/edge-token 0400 root root - s3cret" ];

      services.openclaw-edge = {
        enable = true;
        openFirewall = true;
        credentials.edge-token = "/run/secrets/edge-token";
        settings = {
          listeners = {
            http = { bind = [ "[::]:80" ]; redirect_to = "https"; };
            https = { bind = [ "[::]:443" ]; tls = { }; };
          };
          issuers.local.internal = { };
          upstreams.web.endpoints = [ "127.0.0.1:3000" ];
          routes = {
            app = {
              hosts = [ "app.openclaw.example" ];
              respond = { status = 200; body = "first"; };
              headers.response.set.x-token = "\${cred:edge-token}";
            };
            web = { hosts = [ "web.openclaw.example" ]; upstream = "web"; };
          };
          tests = [ { request = "GET https://app.openclaw.example/"; route = "app"; } ];
        };
      };

      # Answers one byte a second, so that a request is under way while the configuration changes.
      systemd.services.backend = {
        wantedBy = [ "multi-user.target" ];
        serviceConfig.ExecStart = "${pkgs.python3}/bin/python3 ${pkgs.writeText "slow.py" ''
          import http.server, time

          class Slow(http.server.BaseHTTPRequestHandler):
              def do_GET(self):
                  self.send_response(200)
                  self.send_header("content-length", "30")
                  self.end_headers()
                  for _ in range(30):
                      self.wfile.write(b".")
                      self.wfile.flush()
                      time.sleep(1)

          http.server.ThreadingHTTPServer(("127.0.0.1", 3000), Slow).serve_forever()
        ''}";
      };

      specialisation = {
        reloaded.configuration = answering "second";
        # A running process refuses another port: it is restarted.
        moved.configuration = {
          imports = [ (answering "third") ];
          services.openclaw-edge.settings.listeners.extra = { bind = [ "[::]:8443" ]; tls = { }; };
        };
      };
    };

  nodes.client =
    { nodes, ... }:
    {
      networking.hosts.${nodes.edge.networking.primaryIPAddress} = [
        "app.openclaw.example"
        "web.openclaw.example"
      ];
    };

  testScript =
    { nodes, ... }:
    ''
      start_all()
      edge.wait_for_unit("openclaw-edge.service")
      edge.wait_for_unit("backend.service")
      client.wait_for_unit("multi-user.target")
      edge.wait_until_succeeds("curl -fsS http://127.0.0.1:9901/readyz")

      ca = edge.succeed("cat /var/lib/openclaw-edge/internal/ca.pem")
      client.succeed(f"cat > /tmp/ca.pem <<'END'\n{ca}\nEND")
      get = "curl -fsS --max-time 60 --cacert /tmp/ca.pem "

      def pid():
          return edge.succeed("systemctl show --value --property MainPID openclaw-edge.service").strip()

      def switch(name):
          edge.succeed(f"${nodes.edge.system.build.toplevel}/specialisation/{name}/bin/switch-to-configuration test")

      with subtest("TLS, a redirect, a credential"):
          client.wait_until_succeeds(get + "https://app.openclaw.example/ | grep -Fx first")
          assert "s3cret" in client.succeed(get + "-D - -o /dev/null https://app.openclaw.example/")
          code = client.succeed("curl -sS -o /dev/null -w '%{http_code}' http://app.openclaw.example/")
          assert code == "308", code

      with subtest("as its own user, with nothing open but what was asked for"):
          assert edge.succeed(f"stat -c %U /proc/{pid()}").strip() == "openclaw-edge"
          assert edge.succeed("sysctl -n net.ipv4.tcp_migrate_req").strip() == "1"
          client.fail("curl -sS --max-time 5 http://app.openclaw.example:9901/healthz")
          edge.succeed("openclaw-edge certs list")

      with subtest("a new configuration is read by the same process, under a request"):
          before = pid()
          client.succeed(f"({get} https://web.openclaw.example/ > /tmp/slow; echo $? > /tmp/code) >&2 &")
          edge.wait_until_succeeds("curl -fsS http://127.0.0.1:9901/metrics | grep -E '^edge_http_requests_in_flight.*web.* 1$'")
          switch("reloaded")
          client.wait_until_succeeds(get + "https://app.openclaw.example/ | grep -Fx second")
          assert pid() == before
          client.wait_until_succeeds("test -e /tmp/code")
          assert client.succeed("cat /tmp/code").strip() == "0"
          assert client.succeed("cat /tmp/slow") == "." * 30

      with subtest("another port is a restart"):
          switch("moved")
          client.wait_until_succeeds(get + "https://app.openclaw.example:8443/ | grep -Fx third")
          assert pid() != before

      with subtest("it comes back, with the same CA"):
          edge.succeed("systemctl restart openclaw-edge.service")
          client.wait_until_succeeds(get + "https://app.openclaw.example/ | grep -Fx third")
          before = pid()
          edge.succeed("systemctl kill --signal=KILL openclaw-edge.service")
          client.wait_until_succeeds(get + "https://app.openclaw.example/ | grep -Fx third")
          assert pid() != before
    '';
}

# What the module reads out of `settings`.
{ lib }:
let
  # Every text in it, however deep.
  texts =
    value:
    if builtins.isString value then
      [ value ]
    else if builtins.isList value then
      lib.concatMap texts value
    else if builtins.isAttrs value then
      lib.concatMap texts (lib.attrValues value)
    else
      [ ];

  # The names in `${cred:NAME}`; a literal `${` is written `$${`.
  credentials =
    text:
    lib.concatMap (part: if builtins.isList part then part else [ ]) (
      builtins.split "[$][{]cred:([^}]*)}" (builtins.replaceStrings [ "$\${" ] [ "" ] text)
    );

  binds =
    settings:
    if settings ? listeners then
      lib.concatMap (listener: listener.bind or [ ]) (lib.attrValues settings.listeners)
    else
      [ "[::]:80" "[::]:443" ];
  onLoopback = bind: builtins.match "(127[.].*|\\[::1]:.*)" bind != null;
  outside = settings: lib.filter (bind: !onLoopback bind) (binds settings);
  port = bind: lib.last (lib.splitString ":" bind);
  isPort = bind: builtins.match "[1-9][0-9]*" (port bind) != null;
in
{
  # Credentials that the settings name and nobody provides.
  missing =
    settings: provided:
    lib.filter (name: !provided ? ${name}) (lib.unique (lib.concatMap credentials (texts settings)));

  ports = settings: lib.unique (map (bind: lib.toInt (port bind)) (lib.filter isPort (outside settings)));
  unknownPorts = settings: lib.filter (bind: !isPort bind) (outside settings);

  # What a running process refuses to change (config/src/diff.rs).
  fixed = settings: {
    workers = settings.workers or null;
    state_dir = settings.state_dir or null;
    admin = settings.admin or null;
    bind = binds settings;
  };
}

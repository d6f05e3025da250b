# The functions of nixpkgs' lib that deploy/nixos uses.
let
  modules = import ./modules.nix;
  inherit (builtins)
    attrNames
    concatLists
    elem
    elemAt
    filter
    foldl'
    isList
    length
    listToAttrs
    map
    split
    stringLength
    substring
    ;
in
modules
// rec {
  inherit (builtins) all attrValues attrNames concatMap concatStringsSep filter;
  hasPrefix = prefix: text: substring 0 (stringLength prefix) text == prefix;
  splitString = separator: text: filter (part: !isList part) (split (escapeRegex separator) text);
  escapeRegex = builtins.replaceStrings [ "." "[" "|" "+" "*" "?" "(" ")" ] [ "\\." "\\[" "\\|" "\\+" "\\*" "\\?" "\\(" "\\)" ];
  last = list: elemAt list (length list - 1);
  toInt = builtins.fromJSON;
  unique = foldl' (seen: one: if elem one seen then seen else seen ++ [ one ]) [ ];
  optional = condition: one: if condition then [ one ] else [ ];
  optionalAttrs = condition: set: if condition then set else { };
  mapAttrsToList = f: set: map (name: f name set.${name}) (attrNames set);
  genAttrs = list: f: listToAttrs (map (name: { inherit name; value = f name; }) list);
  getExe' = package: name: "${package}/bin/${name}";
  escapeShellArg = text: "'" + builtins.replaceStrings [ "'" ] [ "'\\''" ] text + "'";
  literalExpression = text: { _type = "literalExpression"; inherit text; };
  importTOML = file: builtins.fromTOML (builtins.readFile file);
  licenses.asl20.spdxId = "Apache-2.0";
}

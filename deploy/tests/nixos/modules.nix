# A small module system with the words and rules of nixpkgs' own, as no package registry has that:
# options with types, priorities, mkIf and mkMerge, submodules with a free form; an unknown option,
# a value of the wrong type and two values for one option are errors.
let
  inherit (builtins)
    all
    attrNames
    concatLists
    elem
    filter
    foldl'
    head
    isAttrs
    isBool
    isInt
    isList
    isString
    length
    listToAttrs
    map
    mapAttrs
    ;
  concatMap = f: list: concatLists (map f list);
  typed = type: value: isAttrs value && (value._type or null) == type;
  isOption = typed "option";

  mkIf = condition: content: { _type = "if"; inherit condition content; };
  mkMerge = contents: { _type = "merge"; inherit contents; };
  mkOverride = priority: content: { _type = "override"; inherit priority content; };

  # The definitions in a value of one option, with their priorities.
  discharge =
    value:
    if typed "if" value then
      (if value.condition then discharge value.content else [ ])
    else if typed "merge" value then
      concatMap discharge value.contents
    else if typed "override" value then
      map (one: one // { inherit (value) priority; }) (discharge value.content)
    else
      [ { priority = 100; inherit value; } ];
  strongest =
    values:
    let
      found = concatMap discharge values;
      least = foldl' (a: one: if one.priority < a then one.priority else a) 9999 found;
    in
    map (one: one.value) (filter (one: one.priority == least) found);

  # Attribute sets with the wrapping moved to their values, so that whether an option is defined can
  # be told before a condition is known.
  push =
    value:
    if typed "if" value then
      map (mapAttrs (_: mkIf value.condition)) (push value.content)
    else if typed "merge" value then
      concatMap push value.contents
    else if typed "override" value then
      map (mapAttrs (_: mkOverride value.priority)) (push value.content)
    else
      [ value ];
  under = name: sets: concatMap (set: if set ? ${name} then [ set.${name} ] else [ ]) sets;
  names = sets: attrNames (foldl' (a: b: a // b) { } sets);

  show = path: concatStrings "." path;
  concatStrings = separator: list: foldl' (a: b: if a == "" then b else a + separator + b) "" list;

  # What the definitions `values` make of the option tree `options`.
  tree =
    path: options: free: values:
    let
      sets = concatMap push values;
      known = mapAttrs (
        name: option:
        let
          at = path ++ [ name ];
          here = under name sets;
        in
        if isOption option then value at option here else tree at option free here
      ) options;
      unknown = filter (name: !options ? ${name}) (names sets);
      others = listToAttrs (map (name: { inherit name; value = free.merge (path ++ [ name ]) (under name sets); }) (filter defined unknown));
      defined = name: strongest (under name sets) != [ ];
    in
    if free != null then
      others // known
    else if unknown != [ ] then
      # Late, as which options there are must not depend on what they are.
      known // { _unknown = throw "unknown option ${show (path ++ [ (head unknown) ])}"; }
    else
      known;

  value =
    path: option: here:
    let
      found = strongest here;
    in
    if found == [ ] then
      option.default or (throw "option ${show path} has no value")
    else
      (option.apply or (x: x)) (option.type.merge path here);

  # A type of values that do not merge.
  single = name: check: {
    inherit name check;
    merge =
      path: values:
      let
        found = strongest values;
        one = head found;
      in
      if !check one then
        throw "option ${show path} is not of type ${name}"
      else if !all (other: other == one) found then
        throw "option ${show path} has conflicting values"
      else
        one;
  };

  types = rec {
    anything = single "anything" (_: true);
    bool = single "bool" isBool;
    int = single "int" isInt;
    str = single "str" isString;
    path = single "path" (v: builtins.isPath v || isPackage v || (isString v && builtins.substring 0 1 v == "/"));
    package = single "package" isPackage;
    isPackage = v: isAttrs v && v ? outPath;
    enum = allowed: single "enum" (v: elem v allowed);
    nullOr = type: {
      name = "nullOr ${type.name}";
      check = v: v == null || type.check v;
      merge = at: values: if all (v: v == null) (strongest values) then null else type.merge at values;
    };
    listOf = type: {
      name = "listOf ${type.name}";
      check = isList;
      merge =
        at: values:
        concatMap (v: if isList v then map (one: type.merge at [ one ]) v else throw "option ${show at} is not of type listOf ${type.name}") (
          strongest values
        );
    };
    attrsOf = type: {
      name = "attrsOf ${type.name}";
      check = isAttrs;
      merge =
        at: values:
        let
          found = strongest values;
        in
        if !all isAttrs found then
          throw "option ${show at} is not of type attrsOf ${type.name}"
        else
          let
            sets = concatMap push found;
          in
          listToAttrs (
            map (name: { inherit name; value = type.merge (at ++ [ name ]) (under name sets); }) (
              filter (name: strongest (under name sets) != [ ]) (names sets)
            )
          );
    };
    submodule = module: {
      name = "submodule";
      check = isAttrs;
      merge = at: values: forced (tree at module.options (module.freeformType or null) values);
    };
    # What YAML can say.
    yaml = {
      name = "YAML value";
      check = _: true;
      merge =
        at: values:
        let
          found = strongest values;
          kind = builtins.typeOf (head found);
        in
        if elem kind [ "lambda" "path" ] then
          throw "option ${show at} is not of type YAML value"
        else if isAttrs (head found) then
          (attrsOf yaml).merge at values
        else if isList (head found) then
          (listOf yaml).merge at values
        else
          (anything).merge at values;
    };
  };

  # Submodules are values: what they do not know is an error as soon as they are asked for.
  forced = set: if set ? _unknown then set._unknown else set;
  # The same for the tree itself.
  verified =
    options: set:
    foldl' (
      ok: name: if isOption options.${name} then ok else builtins.seq (verified options.${name} set.${name}) ok
    ) (forced set) (attrNames options);
in
{
  inherit mkIf mkMerge mkOverride types;
  mkDefault = mkOverride 1000;
  mkForce = mkOverride 50;
  mkOption = option: option // { _type = "option"; };
  mkEnableOption = description: { _type = "option"; type = types.bool; default = false; inherit description; };

  # The configuration that modules make, which get it and `args` in turn.
  evalModules =
    { modules, args }:
    let
      call =
        module:
        if builtins.isPath module then
          call (import module)
        else if builtins.isFunction module then
          module (args // { inherit config; })
        else
          module;
      all = map call modules;
      merged = foldl' merge { } (map (module: module.options or { }) all);
      merge = a: b: a // mapAttrs (name: v: if isOption v || !a ? ${name} then v else merge a.${name} v) b;
      config = tree [ ] merged null (map (module: module.config or (removeAttrs module [ "options" ])) all);
    in
    verified merged config;
}

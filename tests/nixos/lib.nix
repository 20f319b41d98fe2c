# As much of a module system as the module of this project needs: types that check, options with defaults, unknown
# names refused, mkIf. It proves syntax, names and types; that NixOS accepts the values is for a machine with NixOS.
rec {
  mkOption = option: option // { _type = "option"; };
  mkEnableOption = what: mkOption {
    type = types.bool;
    default = false;
    description = "Whether to enable ${what}.";
  };
  mkIf = condition: content: {
    _type = "if";
    inherit condition content;
  };
  makeBinPath = builtins.concatStringsSep ":";
  cleanSource = path: path;
  licenses.mit = "MIT";
  platforms.linux = [ "x86_64-linux" ];
  genAttrs =
    names: make:
    builtins.listToAttrs (
      map (name: {
        inherit name;
        value = make name;
      }) names
    );

  types = {
    bool = {
      name = "bool";
      check = builtins.isBool;
    };
    str = {
      name = "string";
      check = builtins.isString;
    };
    ints.unsigned = {
      name = "unsigned integer, meaning >=0";
      check = value: builtins.isInt value && value >= 0;
    };
    port = {
      name = "port";
      check = value: builtins.isInt value && value >= 0 && value <= 65535;
    };
    package = {
      name = "package";
      check = value: builtins.isAttrs value && value ? outPath;
    };
    anything = {
      name = "anything";
      check = _: true;
    };
    enum = values: {
      name = "one of ${builtins.toJSON values}";
      check = value: builtins.elem value values;
    };
    strMatching = pattern: {
      name = "string matching ${pattern}";
      check = value: builtins.isString value && builtins.match pattern value != null;
    };
    listOf = type: {
      name = "list of ${type.name}";
      check = value: builtins.isList value && builtins.all type.check value;
    };
  };

  # Values for a tree of options: what is set, checked, or the default.
  fill =
    path: options: set:
    let
      unknown = builtins.filter (name: !(options ? ${name})) (builtins.attrNames set);
      value =
        name: option:
        let
          at = "${path}.${name}";
          given = set.${name} or option.default or (throw "${at} is not set and has no default");
        in
        if option ? _type then
          (if option.type.check given then given else throw "${at} is not of type ${option.type.name}")
        else
          fill at option (set.${name} or { });
    in
    if unknown != [ ] then
      throw "there is no option ${path}.${builtins.head unknown}"
    else
      builtins.mapAttrs value options;

  # Resolve mkIf: what is off is gone.
  settle =
    value:
    if builtins.isAttrs value && value ? _type && value._type == "if" then
      (if value.condition then settle value.content else { })
    else if builtins.isAttrs value && !(value ? outPath) then
      builtins.mapAttrs (_: settle) value
    else
      value;
}

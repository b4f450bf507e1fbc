// What the JSON Schema of group files says about a place in a file: its keys, values and descriptions. Pure.

/** Schemas that apply to a value, references resolved and alternatives taken apart. `value`: plain, as far as it is known. */
export function resolve(root, schema, value, depth = 0) {
  if (!schema || typeof schema !== "object" || depth > 12) return [];
  if (schema.$ref) {
    const target = schema.$ref.split("/").slice(1).reduce((at, key) => at?.[key], root);
    const found = resolve(root, target, value, depth + 1);
    return schema.description ? found.map((one) => ({ ...one, description: schema.description })) : found;
  }
  if (schema.if) {
    return resolve(root, holds(schema.if, value) ? schema.then : schema.else, value, depth + 1);
  }
  const options = schema.anyOf ?? schema.oneOf;
  if (!options) return [schema];
  const fitting = options.flatMap((one) => resolve(root, one, value, depth + 1));
  const tagged = fitting.filter((one) => one.properties?.type?.const !== undefined);
  const chosen = tagged.filter((one) => one.properties.type.const === value?.type);
  const rest = fitting.filter((one) => !tagged.includes(one));
  const found = chosen.length ? chosen : [...tagged, ...rest];
  return schema.description ? found.map((one) => ({ description: schema.description, ...one })) : found;
}

function holds(condition, value) {
  if (!value || typeof value !== "object" || Array.isArray(value)) return false;
  if ((condition.required ?? []).some((key) => !(key in value))) return false;
  return Object.entries(condition.properties ?? {}).every(([key, { pattern }]) =>
    !pattern || (typeof value[key] === "string" && new RegExp(pattern).test(value[key])));
}

/** Schemas of the part at `path`; `data`: the whole file, plain. */
export function at(root, path, data) {
  let schemas = resolve(root, root, data);
  let value = data;
  for (const key of path) {
    value = value?.[key];
    schemas = schemas.flatMap((one) => step(root, one, key, value));
  }
  return schemas;
}

function step(root, schema, key, value) {
  if (typeof key === "number") {
    return resolve(root, schema.prefixItems?.[key] ?? schema.items, value);
  }
  const known = schema.properties?.[key];
  if (known) return resolve(root, known, value).map((one) => ({ ...one, description: known.description ?? one.description, default: known.default ?? one.default }));
  const other = schema.additionalProperties ?? Object.values(schema.patternProperties ?? {})[0];
  return other && typeof other === "object" ? resolve(root, other, value) : [];
}

/** Keys that may stand in the map at `path`: [{key, schema, required}]. */
export function keys(root, path, data) {
  const found = new Map();
  for (const schema of at(root, path, data)) {
    for (const [key, one] of Object.entries(schema.properties ?? {})) {
      if (!found.has(key)) found.set(key, { key, schema: one, required: (schema.required ?? []).includes(key) });
    }
  }
  return [...found.values()];
}

/** Values that the schema names for the part at `path`. */
export function values(root, path, data) {
  const parent = at(root, path.slice(0, -1), data);
  const last = path.at(-1);
  const types = last === "type" ? parent.map((one) => one.properties?.type?.const).filter(Boolean) : [];
  const found = at(root, path, data).flatMap((one) => one.enum ?? (one.const !== undefined ? [one.const] : one.type === "boolean" ? [true, false] : []));
  return [...new Set([...types, ...found])].map(String);
}

/** A line or two about the part at `path`: what it is, its kind and its default. */
export function about(root, path, data) {
  const schemas = at(root, path, data);
  if (!schemas.length) return null;
  const described = schemas.find((one) => one.description) ?? schemas[0];
  const kinds = [...new Set(schemas.map(kind).filter(Boolean))].join(" or ");
  const preset = schemas.find((one) => one.default !== undefined && one.default !== null && typeof one.default !== "object");
  return { text: described.description ?? described.title ?? "", kind: kinds, preset: preset ? String(preset.default) : "" };
}

function kind(schema) {
  if (schema.enum) return schema.enum.join(", ");
  const least = schema.minimum ?? schema.exclusiveMinimum;
  const most = schema.maximum ?? schema.exclusiveMaximum;
  const range = least !== undefined || most !== undefined ? ` ${least ?? "…"} to ${most ?? "…"}` : "";
  return schema.type && schema.type !== "null" ? `${schema.type}${range}` : "";
}

// The editor of hams-web: CodeMirror with YAML, completion and hover from the JSON Schema, and findings of the server.
import { autocompletion, closeBrackets, closeBracketsKeymap, completionKeymap, startCompletion } from "@codemirror/autocomplete";
import { defaultKeymap, history, historyKeymap, indentLess, indentMore } from "@codemirror/commands";
import { yaml } from "@codemirror/lang-yaml";
import { HighlightStyle, bracketMatching, indentOnInput, indentUnit, syntaxHighlighting } from "@codemirror/language";
import { forceLinting, lintGutter, lintKeymap, linter, setDiagnostics } from "@codemirror/lint";
import { EditorState } from "@codemirror/state";
import { EditorView, drawSelection, highlightActiveLine, hoverTooltip, keymap, lineNumbers } from "@codemirror/view";
import { tags } from "@lezer/highlight";
import { pathAt, place, plain } from "./place.js";
import { about, keys, values } from "./schema.js";

export { changesFor, regionsOf, streamsOf } from "./regions.js";

const colours = HighlightStyle.define([
  { tag: [tags.propertyName, tags.definition(tags.propertyName)], color: "var(--code-key)" },
  { tag: [tags.string, tags.special(tags.string), tags.content], color: "var(--code-text)" },
  { tag: [tags.comment, tags.lineComment], color: "var(--code-comment)", fontStyle: "italic" },
  { tag: [tags.number, tags.bool, tags.null, tags.keyword, tags.typeName, tags.labelName], color: "var(--code-value)" },
  { tag: [tags.punctuation, tags.separator, tags.squareBracket, tags.brace], color: "var(--code-mark)" },
]);

const look = EditorView.theme({
  "&": { backgroundColor: "var(--code-back)", color: "var(--code-fore)", fontSize: "14px", height: "100%" },
  ".cm-scroller": { fontFamily: "ui-monospace, Menlo, Consolas, 'DejaVu Sans Mono', monospace", lineHeight: "1.45", overflow: "auto" },
  ".cm-content": { caretColor: "var(--code-fore)", padding: "8px 0" },
  ".cm-cursor": { borderLeftColor: "var(--code-fore)" },
  ".cm-gutters": { backgroundColor: "var(--code-back)", color: "var(--code-comment)", borderRight: "1px solid var(--code-line)" },
  ".cm-activeLine": { backgroundColor: "var(--code-active)" },
  "&.cm-focused": { outline: "3px solid var(--focus, #1a73e8)", outlineOffset: "1px" },
  "&.cm-focused > .cm-scroller > .cm-selectionLayer .cm-selectionBackground, .cm-selectionBackground": { backgroundColor: "var(--code-select)" },
  ".cm-tooltip": { backgroundColor: "var(--code-pop)", color: "var(--code-fore)", border: "1px solid var(--code-line)", borderRadius: "6px", maxWidth: "min(34rem, 90vw)" },
  ".cm-tooltip-autocomplete > ul > li[aria-selected]": { backgroundColor: "var(--code-key)", color: "var(--code-back)" },
  ".cm-completionInfo, .cm-hover": { padding: "6px 10px", fontFamily: "system-ui, sans-serif", whiteSpace: "normal" },
  ".cm-hover p": { margin: "2px 0" },
  ".cm-diagnostic": { fontFamily: "system-ui, sans-serif", padding: "4px 10px" },
  ".cm-lintRange-error": { backgroundImage: "none", textDecoration: "underline wavy var(--code-error) 1.5px", textUnderlineOffset: "3px" },
  ".cm-placeholder": { color: "var(--code-comment)" },
});

function completing(getSchema, getNames) {
  return (context) => {
    const schema = getSchema();
    const text = context.state.doc.toString();
    const here = place(text, context.pos);
    if (!schema || !here || (!context.explicit && !here.word && here.key)) return null;
    const data = plain(text);
    const names = here.key ? [] : getNames(here.path, data);
    const options = here.key
      ? keys(schema, here.path, data).map(({ key, schema: one, required }) => ({
        label: key, type: "property", detail: required ? "required" : "", apply: `${key}: `,
        info: one.description ?? one.title ?? undefined, boost: required ? 1 : 0,
      }))
      : [...values(schema, here.path, data), ...names].map((label) => ({ label, type: "enum" }));
    return options.length ? { from: here.from, options, validFor: /^[\w.:/@=-]*$/ } : null;
  };
}

function hovering(getSchema) {
  return hoverTooltip((view, offset) => {
    const text = view.state.doc.toString();
    const path = getSchema() && pathAt(text, offset);
    const found = path?.length ? about(getSchema(), path, plain(text)) : null;
    if (!found || !(found.text || found.kind)) return null;
    return { pos: offset, above: true, create: () => ({ dom: described(path.join("."), found) }) };
  });
}

function described(name, { text, kind, preset }) {
  const dom = document.createElement("div");
  dom.className = "cm-hover";
  for (const [tag, content] of [["strong", name], ["p", text], ["p", [kind, preset && `default: ${preset}`].filter(Boolean).join("; ")]]) {
    if (!content) continue;
    const element = document.createElement(tag);
    element.textContent = content;
    dom.append(element);
  }
  return dom;
}

/** A finding of the server ({line, column, text}) as a range of the text: from its column to the end of the word. */
function diagnostic(doc, { line, column, path, text }) {
  const at = doc.line(Math.min(Math.max(line ?? 1, 1), doc.lines));
  const first = at.text.length - at.text.trimStart().length;
  const from = at.from + Math.min(column ? column - 1 : first, at.length);
  const word = /^[\w-]+|^"[^"]*"|^\S+/.exec(doc.sliceString(from, at.to))?.[0].length ?? 0;
  return { from, to: Math.max(from + word, Math.min(from + 1, at.to)), severity: "error", message: path ? `${path}: ${text}` : text };
}

/**
 * An editor in `host`, in a shadow root (the page's policy forbids inline styles in the document).
 * options: {label, describedBy, readOnly, schema() , names(path, data), check(text) -> Promise<findings>, onChange(text)}.
 */
export function createEditor(host, options) {
  const root = host.shadowRoot ?? host.attachShadow({ mode: "open" });
  const holder = document.createElement("div");
  const sheet = new CSSStyleSheet();
  sheet.replaceSync(":host{display:block}div.holder{height:100%}");
  holder.className = "holder";
  root.adoptedStyleSheets = [...root.adoptedStyleSheets, sheet];
  root.append(holder);
  const readOnly = Boolean(options.readOnly);
  let quiet = false;
  const view = new EditorView({
    root,
    parent: holder,
    state: EditorState.create({
      doc: options.text ?? "",
      extensions: [
        lineNumbers(), history(), drawSelection(), indentOnInput(), bracketMatching(), closeBrackets(), highlightActiveLine(),
        indentUnit.of("  "), yaml(), syntaxHighlighting(colours), look, lintGutter(), EditorView.lineWrapping,
        EditorState.readOnly.of(readOnly),
        autocompletion({ override: [completing(options.schema, options.names ?? (() => []))], icons: false }),
        hovering(options.schema),
        linter(async (one) => {
          if (quiet) return [];
          const text = one.state.doc.toString();
          const findings = await options.check(text);
          return one.state.doc.toString() === text ? findings.map((f) => diagnostic(one.state.doc, f)) : [];
        }, { delay: 500 }),
        // Tab leaves the editor, as in any field; Ctrl-] and Ctrl-[ change the indent.
        keymap.of([{ key: "Ctrl-]", run: indentMore }, { key: "Ctrl-[", run: indentLess }, { key: "Ctrl-Space", run: startCompletion },
          ...closeBracketsKeymap, ...defaultKeymap, ...historyKeymap, ...completionKeymap, ...lintKeymap]),
        EditorView.contentAttributes.of({ "aria-label": options.label, ...(readOnly ? { "aria-readonly": "true" } : {}), tabindex: "0" }),
        EditorView.updateListener.of((update) => { if (update.docChanged) options.onChange?.(update.state.doc.toString()); }),
      ],
    }),
  });
  return {
    text: () => view.state.doc.toString(),
    set: (text) => view.dispatch({ changes: { from: 0, to: view.state.doc.length, insert: text } }),
    change: (changes) => view.dispatch({ changes }),
    goTo: (line, column = 1) => {
      const at = view.state.doc.line(Math.min(Math.max(line ?? 1, 1), view.state.doc.lines));
      view.dispatch({ selection: { anchor: Math.min(at.from + column - 1, at.to) }, scrollIntoView: true });
      view.focus();
    },
    show: (findings) => view.dispatch(setDiagnostics(view.state, findings.map((one) => diagnostic(view.state.doc, one)))),
    check: () => forceLinting(view),
    focus: () => view.focus(),
    destroy: () => { quiet = true; view.destroy(); },
  };
}

/** No text of the page stands outside the catalogue, and the catalogue is whole: read from the sources. */

import { readFileSync, readdirSync } from "node:fs";
import { join, relative } from "node:path";

import ts from "typescript";
import { describe, expect, test } from "vitest";

import { catalogueFor } from "../src/i18n/language";
import { type Sentence, plural, speak, t, word } from "../src/i18n/t";
import { said } from "../src/i18n/server";
import sentences from "../src/i18n/zh-CN.json";
import server from "../src/i18n/zh-CN.server.json";
import components from "../src/i18n/zh-CN.components.json";
import words from "../src/i18n/zh-CN.words.json";

const SOURCES = join(import.meta.dirname, "..", "src");
/** Attributes, of elements and of our own components, whose text a person reads or hears. */
const SHOWN = new Set(["title", "aria-label", "ariaLabel", "placeholder", "alt", "label", "help", "loadingText"]);
/** What looks like a text and is none, or is kept as it is in every language. */
const KEPT = new Set([
  "Made from the template", // stored with the version, for readers of every language
  "Made to judge {}",
  "input, textarea, select", // selectors
  "textarea, select, input:not([data-keys])",
  "button, a",
  "key: value", // YAML
  "modelmill",
  "majority class", // a baseline's name in reports
  "{} MB",
  "${data}/tickets",
  "s3://bucket/key",
]);
/** Attributes that hold no text: styles, shapes, React's keys. */
const SHAPES = new Set(["className", "key", "style", "viewBox", "d", "points", "transform"]);
/** Rules of SQL, or YAML, in the code. */
const CODE = /^[A-Z ()]+$|\n/;
const isWording = (text: string): boolean => /\p{L}{2}/u.test(text.replace(/\$\{\w+\}|\{\w*\}/g, ""));
const isSentence = (text: string): boolean => /\p{L}{2,}[,;:.]? \p{L}/u.test(text) || /\p{L}{2,} \{|\} \p{L}{2,}/u.test(text);

interface Found {
  used: Set<string>;
  outside: string[];
}

/** Read a source: its sentences, and the texts that are shown without the catalogue. */
function readSource(name: string, text: string): Found {
  const file = ts.createSourceFile(name, text, ts.ScriptTarget.Latest, true, name.endsWith("x") ? ts.ScriptKind.TSX : ts.ScriptKind.TS);
  const found: Found = { used: new Set(), outside: [] };
  const complain = (node: ts.Node, said: string): void => {
    found.outside.push(`${name}:${file.getLineAndCharacterOfPosition(node.getStart(file)).line + 1}: ${said.trim()}`);
  };
  const visit = (node: ts.Node, isShown: boolean): void => {
    if (ts.isImportDeclaration(node) || ts.isTypeNode(node)) return;
    if (ts.isJsxAttribute(node)) {
      const attribute = node.name.getText(file);
      if (SHAPES.has(attribute)) return;
      node.forEachChild((child) => { visit(child, SHOWN.has(attribute)); });
      return;
    }
    if (ts.isJsxExpression(node) && !ts.isJsxAttribute(node.parent)) return node.forEachChild((child) => { visit(child, true); });
    // What a call or a comparison takes is its own affair; a choice shows what it ends with.
    if (ts.isConditionalExpression(node)) {
      visit(node.condition, false);
      visit(node.whenTrue, isShown);
      visit(node.whenFalse, isShown);
      return;
    }
    const said = saidBy(node);
    if (said !== null) {
      if (said in sentences) found.used.add(said);
      const isCalled = ts.isCallExpression(node.parent) && ["t", "plural"].includes(node.parent.expression.getText(file));
      const isOutside = isCalled ? false : ts.isJsxText(node) || isShown ? isWording(said) : isSentence(said) && !(said in sentences);
      if (isOutside && !KEPT.has(said) && !CODE.test(said.trim()) && !isSilent(node, file)) complain(node, said);
    }
    const isPassing = ts.isJsxExpression(node) || ts.isParenthesizedExpression(node) || ts.isBinaryExpression(node) && node.operatorToken.kind === ts.SyntaxKind.QuestionQuestionToken;
    node.forEachChild((child) => { visit(child, isShown && isPassing); });
  };
  file.forEachChild((child) => { visit(child, false); });
  return found;
}

function saidBy(node: ts.Node): string | null {
  if (ts.isStringLiteral(node) || ts.isNoSubstitutionTemplateLiteral(node) || ts.isJsxText(node)) return node.text;
  return ts.isTemplateExpression(node) ? [node.head.text, ...node.templateSpans.map((span) => span.literal.text)].join("{}") : null;
}

/** Whether a text is a name for the code: a class, a key of the undo list, an element that shows code. */
function isSilent(node: ts.Node, file: ts.SourceFile): boolean {
  const { parent } = node;
  if (ts.isJsxElement(parent) && ["code", "kbd"].includes(parent.openingElement.tagName.getText(file))) return true;
  if (ts.isPropertyAssignment(parent) && parent.name.getText(file) === "className") return true;
  return ts.isCallExpression(parent) && parent.expression.getText(file) === "edit" || ts.isCallExpression(parent) && parent.expression.getText(file) === "onChange";
}

const FILES = readdirSync(SOURCES, { recursive: true, encoding: "utf8" })
  .filter((name) => /\.tsx?$/.test(name) && !name.startsWith("i18n") && !name.endsWith(".d.ts"))
  .map((name) => join(SOURCES, name));
const READ = FILES.map((path) => readSource(relative(SOURCES, path), readFileSync(path, "utf8")));

const placeholders = (text: string): string[] => [...text.matchAll(/\{(\w+)\}/g)].map(([, name]) => name!).sort();

describe("the catalogue", () => {
  test("no text stands outside it", () => {
    expect(READ.flatMap(({ outside }) => outside)).toEqual([]);
  });

  test("each of its sentences is used", () => {
    const used = new Set(READ.flatMap((found) => [...found.used]));
    expect(Object.keys(sentences).filter((sentence) => !used.has(sentence))).toEqual([]);
  });

  test("a translation has the values of its sentence, and Chinese in it", () => {
    const wrong = Object.entries(sentences).filter(([english, chinese]) => placeholders(english).join() !== placeholders(chinese).join() && !english.startsWith("1 "));
    expect(wrong).toEqual([]);
    const english = Object.entries({ ...components, ...words, ...sentences }).filter(([key, chinese]) => isWording(key) && !/[\p{Script=Han}，：]/u.test(chinese));
    expect(english.map(([key]) => key)).toEqual(["text, nightly"]);
  });

  test("the reader of sources finds what it is for", () => {
    const bad = `<p title="Hello there">Some text {ok ? "yes please" : t("Save")}<code>x y</code></p>; say("Not in it");`;
    expect(readSource("bad.tsx", bad).outside).toEqual(["bad.tsx:1: Hello there", "bad.tsx:1: Some text", "bad.tsx:1: yes please", "bad.tsx:1: Not in it"]);
    expect([...readSource("good.tsx", `t("Save"); const one = "Undo";`).used]).toEqual(["Save", "Undo"]);
  });
});

describe("the language", () => {
  test("it is Airflow's: simplified Chinese by any of its tags, else English", () => {
    expect(["zh-CN", "zh", "zh-Hans-SG", "zh-TW", "zh-Hant", "en", "de-AT", "not a tag"].map(catalogueFor)).toEqual(["zh-CN", "zh-CN", "zh-CN", "", "", "", "", ""]);
  });

  test("a sentence is said in it, with its values; braces without a value stay", () => {
    expect(t("{id} is now in {group}", { id: "a", group: "b" })).toBe("a is now in b");
    speak({ ...words, ...sentences });
    expect(t("{id} is now in {group}", { id: "a", group: "{id}" })).toBe("a 已移入 {id}");
    expect([plural(1, "1 row", "{n} rows"), plural(1200, "1 row", "{n} rows")]).toEqual(["1 行", "1,200 行"]);
    expect([word("Build dataset"), word("a component of somebody")]).toEqual(["构建数据集", "a component of somebody"]);
    expect(t("${data} stands for the deployment's folder of tables.")).toContain("${data}");
    speak({});
    expect(t("Save" satisfies Sentence)).toBe("Save");
  });

  test("what the server says of errors is said in it, with its values; what is not known stays", () => {
    const refusal = "input 'dataset' of fine_tune takes a dataset; got raw.table, a table; fitting outputs here: none";
    expect(said(refusal)).toBe(refusal);
    speak(Object.fromEntries(Object.entries(server).map(([english, text]) => [`server: ${english}`, text])));
    expect(said(refusal)).toBe("fine_tune 的输入 'dataset' 接收 dataset；实际为 raw.table，类型是 table；此处没有合适的输出");
    expect(said("'epochs' must be above 0; got -1")).toBe("'epochs' 必须大于 0；实际为 -1");
    expect(said("nobody knows this; got {1} $& {}; add it")).toBe("nobody knows this; 实际为 {1} $& {}；请添加");
    speak({});
  });

  test("a translation of the server's has each value once", () => {
    const wrong = Object.entries(server).filter(([english, chinese]) => {
      const count = english.split("{}").length - 1;
      const used = [...chinese.matchAll(/\{(\d)\}/g)].map(([, place]) => Number(place)).sort();
      return used.join() !== Array.from({ length: count }, (_, index) => index + 1).join();
    });
    expect(wrong).toEqual([]);
  });
});

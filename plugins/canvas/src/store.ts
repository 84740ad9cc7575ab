/** The one store of the canvas page: the pipeline's text with its history, and what is known about it. */

import { create } from "zustand";

import { ApiError, type PipelineDocument, type Problem, api } from "./api/client";
import { OwnDraft, type Saved, opening } from "./core/drafts";
import { EditError, type SyntaxProblem, readText, reconcile, renameGroup, renameStep } from "./core/document";
import { groupKey, groupOfKey } from "./core/groups";
import { type Point, arrange, withPlaces } from "./core/layout";
import { type History, MERGE_MILLISECONDS, record, redo, startOf, undo } from "./core/history";
import { type Catalogue, type Edge, type Group, type Pipeline, type Step, groupsOf, isPipeline, stepsOf } from "./core/pipeline";
import { type FieldPath, type Unfinished, type UnfinishedTexts, dropUnfinished, keepUnfinished, readUnfinished, withStepRenamed, withUnfinished } from "./core/unfinished";
import { t } from "./i18n/t";

/** What a user may do with a pipeline. */
export interface May {
  edit: boolean;
  run: boolean;
}

export interface CanvasState {
  /** Id of the DAG; null for a pipeline that has never been saved. */
  dagId: string | null;
  /** The draft: of the DAG, or under a name of its own before the first save; null keeps none. */
  draft: OwnDraft | null;
  /** Etag of the saved text; null for a pipeline that has never been saved. */
  etag: string | null;
  savedText: string;
  /** What somebody else has saved since the draft was begun, if the two cannot be merged. */
  newer: Saved | null;
  /** An older text that was asked for, beside changes that are not saved, until a person chooses. */
  older: string | null;
  /** Digest of the saved pipeline; null if it is not valid, or has never been saved. */
  digest: string | null;
  /** The deployment's values of parameters. */
  deploymentParams: Readonly<Record<string, string>>;
  /** What Airflow lets this user do with the pipeline. */
  may: May;
  history: History;
  /** The latest text that was YAML, and what it stands for. */
  pipeline: Pipeline;
  steps: ReadonlyMap<string, Step>;
  groups: ReadonlyMap<string, Group>;
  syntax: SyntaxProblem[];
  problems: Problem[];
  /** What is typed into fields and is not YAML yet. */
  unfinished: UnfinishedTexts;
  /** Whether the problems are those of the present text. */
  isChecked: boolean;
  catalogue: Catalogue;
  /** Names of steps, and keys of groups. */
  selection: ReadonlySet<string>;
  /** The edge whose data is shown; null: none is selected. */
  edge: Edge | null;
  /** Groups that are shown as one node: the view's, too. */
  collapsed: ReadonlySet<string>;
  /** Group that takes the step in the hand, if it is let go. */
  target: string | null;
  /** Where the steps stand on the screen: the view's, not the pipeline's, so no part of its text. */
  places: ReadonlyMap<string, Point>;
  /** The one line that says what has just been refused or done. */
  notice: { text: string; isError: boolean } | null;

  /** Show a saved pipeline, or the text of a new one; a draft in this browser goes on. */
  open: (document: PipelineDocument | NewDocument) => void;
  /** Take a newer saved text as what the next save replaces; `text` is shown, and the newer text is one undo away. */
  rebase: (newer: Saved, text: string) => void;
  /** Show an older text: changes that are not saved give way only if a person says so. */
  handOver: (older: string) => void;
  /** Choose the older text, or keep one's own. */
  settle: (takesOlder: boolean) => void;
  setCatalogue: (catalogue: Catalogue, deploymentParams: Readonly<Record<string, string>>) => void;
  /** Edit the value; the text follows. `key` names what is edited: quick edits of the same are one undo step. */
  edit: (change: (pipeline: Pipeline) => Pipeline, key?: string) => boolean;
  rename: (from: string, to: string) => boolean;
  renameGroup: (from: string, to: string) => boolean;
  setText: (text: string, key?: string) => void;
  /** A field's text is not YAML yet, or is so again (null); `value` is what the field has meanwhile. */
  leaveUnfinished: (step: string, path: FieldPath, value: unknown, unfinished: Unfinished | null) => void;
  undo: () => void;
  redo: () => void;
  select: (ids: Iterable<string>) => void;
  look: (edge: Edge | null) => void;
  place: (points: ReadonlyMap<string, Point>) => void;
  arrange: () => void;
  toggle: (group: string) => void;
  aim: (target: string | null) => void;
  /** Another tab has changed its drafts: where this one's own has gone, keep it again. */
  keepAgain: () => void;
  check: (signal: AbortSignal) => Promise<void>;
  saved: (document: PipelineDocument) => void;
  say: (text: string, isError?: boolean) => void;
  quiet: () => void;
}

const OPENED = {
  saved: null,
  restored: "Your changes that were not saved are here again.",
  merged: "Somebody saved this pipeline meanwhile. Your changes are merged with theirs; undo shows theirs.",
  conflict: null,
} as const;

/** A text that is not saved under its name: a new pipeline, or the one that an earlier run was of. */
interface NewDocument {
  text: string;
  draftName: string | null;
  may_edit: boolean;
  may_run: boolean;
}

let lastEdit = { key: "", time: 0 };

export const useCanvas = create<CanvasState>()((set, get) => {
  const show = (history: History): void => {
    const { value, problems } = readText(history.present);
    const readable = isPipeline(value) && problems.length === 0;
    const pipeline = readable ? value : get().pipeline;
    const steps = readable ? stepsOf(pipeline) : get().steps;
    const groups = readable ? groupsOf(pipeline) : get().groups;
    const isThere = (key: string): boolean => steps.has(key) || groups.has(groupOfKey(key) ?? "");
    const selection = new Set([...get().selection].filter(isThere));
    const places = withPlaces(steps, get().catalogue, groups, get().places);
    set({ history, syntax: problems, pipeline, steps, groups, selection, places, isChecked: false });
    keepDraft();
  };
  /** Keep what is not saved in the browser: it outlives a closed tab and an ended session. */
  const keepDraft = (): void => {
    const { draft, history, savedText, etag, steps } = get();
    if (draft === null) return;
    const isEmpty = etag === null && history.past.length === 0 && steps.size === 0;
    if (!isDirty(get()) || isEmpty) {
      draft.drop();
      return;
    }
    const keeping = draft.keep(history.present, { text: savedText, etag });
    if (keeping === "lost") get().say(t("This browser keeps no drafts: what is not saved is lost when the tab is closed."), true);
    else if (keeping === "beside") get().say(t("Another tab has changes of this pipeline that are not saved. Yours are kept beside them, under Pipelines."));
  };
  /** Keep what is typed and not YAML yet beside what another tab keeps of other fields. */
  const keepTyped = (change: (texts: UnfinishedTexts) => UnfinishedTexts): void => {
    const name = get().draft?.owner;
    if (name !== undefined) keepUnfinished(name, change(readUnfinished(name)));
  };
  const put = (text: string, key: string): void => {
    const now = Date.now();
    const merge = key !== "" && key === lastEdit.key && now - lastEdit.time < MERGE_MILLISECONDS;
    lastEdit = { key, time: now };
    show(record(get().history, text, merge));
  };
  const attempt = (make: () => string, key: string): boolean => {
    try {
      put(make(), key);
      return true;
    } catch (error) {
      if (!(error instanceof EditError)) throw error;
      get().say(error.message, true);
      return false;
    }
  };
  return {
    dagId: null,
    draft: null,
    etag: null,
    savedText: "",
    newer: null,
    older: null,
    digest: null,
    deploymentParams: {},
    may: { edit: true, run: true },
    history: startOf(""),
    pipeline: {},
    steps: new Map(),
    groups: new Map(),
    syntax: [],
    problems: [],
    unfinished: {},
    isChecked: false,
    catalogue: new Map(),
    selection: new Set(),
    edge: null,
    collapsed: new Set(),
    target: null,
    places: new Map(),
    notice: null,

    open: (document) => {
      const saved = "etag" in document ? document : null;
      const draftName = "draftName" in document ? document.draftName : document.dag_id;
      const newest = { text: saved === null ? "" : document.text, etag: saved?.etag ?? null };
      const draft = draftName === null ? null : new OwnDraft("pipeline", draftName);
      const { text, base, state } = opening(newest, draft?.read() ?? null);
      lastEdit = { key: "", time: 0 };
      set({
        dagId: saved?.dag_id ?? null,
        draft,
        etag: base.etag,
        savedText: base.text,
        newer: state === "conflict" ? newest : null,
        older: null,
        digest: saved?.digest ?? null,
        may: { edit: document.may_edit, run: document.may_run },
        pipeline: {},
        steps: new Map(),
        groups: new Map(),
        selection: new Set(),
        edge: null,
        collapsed: new Set(saved ? (read(COLLAPSED + saved.dag_id) as string[]) : []),
        places: new Map(saved ? (read(PLACES + saved.dag_id) as [string, Point][]) : []),
        problems: saved?.problems ?? [],
        unfinished: draftName === null ? {} : readUnfinished(draftName),
        notice: null,
      });
      if (saved === null) show(state === "saved" ? startOf(document.text) : record(startOf(document.text), text));
      else show(record(startOf(base.text), text));
      const said = OPENED[state];
      if (said !== null) get().say(t(said));
    },
    rebase: (newer, text) => {
      set({ etag: newer.etag, savedText: newer.text, newer: null });
      lastEdit = { key: "", time: 0 };
      show(record(record(get().history, newer.text), text));
    },
    handOver: (older) => {
      if (older === get().history.present) return;
      if (isDirty(get())) {
        set({ older });
        return;
      }
      put(older, "");
      get().say(t("This is the pipeline as it was then. Undo shows it as it is now."));
    },
    settle: (takesOlder) => {
      const { older } = get();
      set({ older: null });
      if (!takesOlder || older === null) return;
      put(older, "");
      get().say(t("This is the pipeline as it was then. Undo shows yours."));
    },
    setCatalogue: (catalogue, deploymentParams) => {
      set({ catalogue, deploymentParams });
    },
    place: (points) => {
      set({ places: new Map([...get().places, ...points]) });
      keepPlaces(get());
    },
    arrange: () => {
      set({ places: arrange(get().steps, get().catalogue, get().groups) });
      keepPlaces(get());
    },
    toggle: (group) => {
      const collapsed = new Set(get().collapsed);
      if (!collapsed.delete(group)) collapsed.add(group);
      set({ collapsed, selection: new Set([groupKey(group)]) });
      keepCollapsed(get());
    },
    aim: (target) => {
      if (get().target !== target) set({ target });
    },
    edit: (change, key = "") => attempt(() => reconcile(get().history.present, change(get().pipeline)), key),
    rename: (from, to) => {
      const place = get().places.get(from);
      if (place) set({ places: new Map([...get().places, [to, place]]) });
      const done = attempt(() => renameStep(get().history.present, from, to), "");
      if (!done) return false;
      set({ unfinished: withStepRenamed(get().unfinished, from, to) });
      keepTyped((kept) => withStepRenamed(kept, from, to));
      keepPlaces(get());
      get().select([to]);
      return true;
    },
    renameGroup: (from, to) => {
      const done = attempt(() => renameGroup(get().history.present, from, to), "");
      if (!done) return false;
      if (get().collapsed.has(from)) get().toggle(to);
      get().select([groupKey(to)]);
      return true;
    },
    setText: (text, key = "text") => {
      put(text, key);
    },
    leaveUnfinished: (step, path, value, unfinished) => {
      const change = (texts: UnfinishedTexts): UnfinishedTexts => withUnfinished(texts, step, path, value, unfinished);
      set({ unfinished: change(get().unfinished) });
      keepTyped(change);
    },
    undo: () => {
      lastEdit = { key: "", time: 0 };
      show(undo(get().history));
    },
    redo: () => {
      show(redo(get().history));
    },
    select: (ids) => {
      const selection = new Set(ids);
      const present = get().selection;
      if (selection.size !== present.size || [...selection].some((id) => !present.has(id))) set({ selection });
    },
    look: (edge) => {
      if (get().edge !== edge) set({ edge });
    },
    keepAgain: () => {
      if (get().draft?.isTaken() === true) keepDraft();
    },
    check: async (signal) => {
      const text = get().history.present;
      try {
        const { problems } = await api.check(text, signal);
        if (get().history.present === text) set({ problems, isChecked: true });
      } catch (error) {
        if (error instanceof ApiError) get().say(error.message, true);
        else if (!signal.aborted) throw error;
      }
    },
    saved: (document) => {
      const { draft, unfinished } = get();
      draft?.drop();
      if (draft !== null && draft.owner !== document.dag_id) dropUnfinished(draft.owner);
      set({
        dagId: document.dag_id,
        draft: new OwnDraft("pipeline", document.dag_id),
        etag: document.etag,
        savedText: document.text,
        digest: document.digest,
        may: { edit: document.may_edit, run: document.may_run },
        newer: null,
      });
      // Until now there was no name to keep them under.
      keepPlaces(get());
      keepCollapsed(get());
      keepTyped((kept) => ({ ...kept, ...unfinished }));
      keepDraft();
    },
    say: (text, isError = false) => {
      set({ notice: { text, isError } });
    },
    quiet: () => {
      set({ notice: null });
    },
  };
});

export function isDirty(state: CanvasState): boolean {
  return state.history.present !== state.savedText;
}

// Places, and which groups are collapsed, are kept in the browser; elsewhere there are the automatic ones.

const PLACES = "modelmill.places.";
const COLLAPSED = "modelmill.collapsed.";

function read(key: string): unknown[] {
  try {
    return JSON.parse(localStorage.getItem(key) ?? "[]") as unknown[];
  } catch {
    return [];
  }
}

function keepPlaces({ dagId, places, steps }: CanvasState): void {
  if (dagId !== null) store(PLACES + dagId, JSON.stringify([...places].filter(([id]) => steps.has(id))));
}

function keepCollapsed({ dagId, collapsed, groups }: CanvasState): void {
  if (dagId !== null) store(COLLAPSED + dagId, JSON.stringify([...collapsed].filter((name) => groups.has(name))));
}

function store(key: string, value: string): void {
  try {
    localStorage.setItem(key, value);
  } catch {
    // The browser's storage is full or forbidden: the page works without it.
  }
}

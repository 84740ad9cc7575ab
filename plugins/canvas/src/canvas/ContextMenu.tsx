/** What can be done with the selection, where the pointer is. */

import { type FocusEvent, type KeyboardEvent, useEffect, useRef } from "react";

import { groupOfKey } from "../core/groups";
import type { Point } from "../core/layout";
import { useCanvas } from "../store";
import { deleteSelection, duplicate, groupSelection, keepFocus, ungroupSelection } from "./actions";
import { t } from "../i18n/t";

interface Props {
  /** On the page. */
  at: Point;
  onClose: () => void;
}

interface Action {
  name: string;
  keys: string;
  run: () => void;
}

export function ContextMenu({ at, onClose }: Props) {
  const { selection, steps, collapsed, toggle } = useCanvas();
  const keys = [...selection];
  const group = keys.length === 1 ? groupOfKey(keys[0] ?? "") : null;
  const isGrouped = keys.some((key) => groupOfKey(key) !== null || steps.get(key)?.group != null);
  const actions: Action[] = [
    ...(group === null ? [{ name: t("Group"), keys: "Ctrl+G", run: groupSelection }] : []),
    ...(isGrouped ? [{ name: group === null ? t("Take out of the group") : t("Ungroup"), keys: "Ctrl+Shift+G", run: ungroupSelection }] : []),
    ...(group === null ? [] : [{ name: collapsed.has(group) ? t("Expand") : t("Collapse"), keys: "", run: () => { toggle(group); } }]),
    { name: t("Duplicate"), keys: "Ctrl+D", run: duplicate },
    { name: group === null ? t("Delete") : t("Delete the group, keep its steps"), keys: "Delete", run: () => { deleteSelection(); } },
  ];
  const menu = useRef<HTMLDivElement>(null);
  useEffect(() => {
    const before = document.activeElement;
    menu.current?.querySelector("button")?.focus();
    return () => { if (before instanceof HTMLElement && before.isConnected) before.focus(); };
  }, []);
  const onKeyDown = (event: KeyboardEvent): void => {
    const items = [...(menu.current?.querySelectorAll("button") ?? [])];
    const present = items.findIndex((item) => item === document.activeElement);
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step !== undefined) items[(present + step + items.length) % items.length]?.focus();
    else if (event.key === "Escape" || event.key === "Tab") onClose();
    else return;
    event.preventDefault();
    event.stopPropagation();
  };
  const onBlur = (event: FocusEvent): void => {
    if (!event.currentTarget.contains(event.relatedTarget)) onClose();
  };
  return (
    <div ref={menu} className="mm-menu" role="menu" aria-label={t("Selection")} style={{ left: at.x, top: at.y }} onKeyDown={onKeyDown} onBlur={onBlur}>
      {actions.map(({ name, keys: combination, run }) => (
        <button
          key={name}
          type="button"
          role="menuitem"
          tabIndex={-1}
          onClick={() => {
            onClose();
            run();
            keepFocus();
          }}
        >
          <span>{name}</span>
          <kbd>{combination}</kbd>
        </button>
      ))}
    </div>
  );
}

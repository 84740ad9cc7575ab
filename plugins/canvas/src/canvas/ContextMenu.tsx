/** What can be done with the selection, where the pointer is. */

import { Menu, Portal } from "@chakra-ui/react";

import { groupOfKey } from "../core/groups";
import type { Point } from "../core/layout";
import { useCanvas } from "../store";
import { deleteSelection, duplicate, groupSelection, ungroupSelection } from "./actions";

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
    ...(group === null ? [{ name: "Group", keys: "Ctrl+G", run: groupSelection }] : []),
    ...(isGrouped ? [{ name: group === null ? "Take out of the group" : "Ungroup", keys: "Ctrl+Shift+G", run: ungroupSelection }] : []),
    ...(group === null ? [] : [{ name: collapsed.has(group) ? "Expand" : "Collapse", keys: "", run: () => { toggle(group); } }]),
    { name: "Duplicate", keys: "Ctrl+D", run: duplicate },
    { name: group === null ? "Delete" : "Delete the group, keep its steps", keys: "Delete", run: () => { deleteSelection(); } },
  ];
  return (
    <Menu.Root
      open
      anchorPoint={at}
      onOpenChange={({ open }) => { if (!open) onClose(); }}
      onSelect={({ value }) => { actions.find(({ name }) => name === value)?.run(); }}
    >
      <Portal>
        <Menu.Positioner>
          <Menu.Content aria-label="Selection">
            {actions.map(({ name, keys: combination }) => (
              <Menu.Item key={name} value={name}>
                {name}
                <Menu.ItemCommand>{combination}</Menu.ItemCommand>
              </Menu.Item>
            ))}
          </Menu.Content>
        </Menu.Positioner>
      </Portal>
    </Menu.Root>
  );
}

/** A dialog: its title, what stands in it, and its buttons. */

import { Button, Dialog, Portal } from "@chakra-ui/react";
import type { ReactNode } from "react";

import { t } from "../i18n/t";

interface FrameProps {
  title: string;
  isWide?: boolean;
  onClose: () => void;
  children: ReactNode;
  footer?: ReactNode;
}

export function Frame({ title, isWide = false, onClose, children, footer }: FrameProps) {
  return (
    <Dialog.Root open size={isWide ? "xl" : "md"} scrollBehavior="inside" onOpenChange={({ open }) => { if (!open) onClose(); }}>
      <Portal>
        <Dialog.Backdrop />
        <Dialog.Positioner>
          <Dialog.Content className="mm-dialog">
            <Dialog.Header>
              <Dialog.Title>{title}</Dialog.Title>
            </Dialog.Header>
            <Dialog.Body>{children}</Dialog.Body>
            {footer === undefined ? null : <Dialog.Footer>{footer}</Dialog.Footer>}
            <Dialog.CloseTrigger asChild>
              <Button size="xs" variant="ghost" aria-label={t("Close")}>
                ×
              </Button>
            </Dialog.CloseTrigger>
          </Dialog.Content>
        </Dialog.Positioner>
      </Portal>
    </Dialog.Root>
  );
}

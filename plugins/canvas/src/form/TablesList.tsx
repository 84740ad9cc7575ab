/** The deployment's tables, for the fields that ask for one. */

import { Button, HStack } from "@chakra-ui/react";
import { Table2 } from "lucide-react";
import { useCallback } from "react";

import { api } from "../api/client";
import { useAnswer } from "../api/useAnswer";
import { t } from "../i18n/t";
import { TABLES_LIST } from "./names";

const MOST = 8;

/** What cannot be listed is not offered; whoever knows a table's name types it. */
export function TablesList({ onChoose }: { /** Shows the first tables as buttons, too. */ onChoose?: ((uri: string) => void) | undefined }) {
  const { data } = useAnswer(useCallback(() => api.tables(), []));
  const uris = data?.uris ?? [];
  return (
    <>
      <datalist id={TABLES_LIST}>
        {uris.map((uri) => <option key={uri} value={uri} />)}
      </datalist>
      {onChoose === undefined || uris.length === 0 ? null : (
        <HStack wrap="wrap" gap={1} mt={2} role="group" aria-label={t("Tables that are there")}>
          {uris.slice(0, MOST).map((uri) => (
            <Button key={uri} size="2xs" variant="outline" onClick={() => onChoose(uri)}>
              <Table2 size={12} />{" "}{uri}
            </Button>
          ))}
          {uris.length > MOST ? <span className="mm-help">{t("and {value} more", { value: uris.length - MOST })}</span> : null}
        </HStack>
      )}
    </>
  );
}

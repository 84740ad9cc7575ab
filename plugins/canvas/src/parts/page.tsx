/** Small parts that several pages share. */

import { Alert, Box, Heading, HStack, Spinner, Text } from "@chakra-ui/react";
import type { ReactNode } from "react";

import type { Answer } from "../api/useAnswer";
import { t } from "../i18n/t";

interface PageProps {
  title: string;
  help?: string;
  actions?: ReactNode;
  children: ReactNode;
}

export function Page({ title, help = "", actions, children }: PageProps) {
  return (
    <Box className="mm-page">
      <HStack justify="space-between" align="flex-start" mb={4}>
        <Box>
          <Heading as="h1" size="lg">
            {title}
          </Heading>
          {help === "" ? null : (
            <Text color="fg.muted" fontSize="sm">
              {help}
            </Text>
          )}
        </Box>
        <HStack>{actions}</HStack>
      </HStack>
      {children}
    </Box>
  );
}

/** What is asked for: on its way, refused, or there. */
export function Answered<T>({ answer, children }: { answer: Answer<T>; children: (data: T) => ReactNode }) {
  return (
    <>
      {answer.error === "" ? null : <Complaint text={answer.error} />}
      {answer.data === null ? answer.error === "" ? <Spinner role="img" aria-label={t("Loading")} /> : null : children(answer.data)}
    </>
  );
}

export function Complaint({ text }: { text: string }) {
  return (
    <Alert.Root role="alert" status="error" mb={3} size="sm">
      <Alert.Indicator />
      <Alert.Title whiteSpace="pre-wrap">{text}</Alert.Title>
    </Alert.Root>
  );
}

/** How the parts of the configuration form are laid out. */

import { Box, Button, HStack, IconButton, Stack, Text } from "@chakra-ui/react";
import type { ThemeProps } from "@rjsf/core";
import type {
  ArrayFieldItemTemplateProps,
  ArrayFieldTemplateProps,
  FieldTemplateProps,
  ObjectFieldTemplateProps,
} from "@rjsf/utils";
import { Plus, X } from "lucide-react";
import { useState } from "react";

import { type Schema, firstFields, limitsOf } from "../core/schema";
import { plural, t } from "../i18n/t";

function FieldTemplate({ id, label, required, rawErrors, hidden, schema, children }: FieldTemplateProps) {
  if (hidden === true) return null;
  const described = schema as Schema;
  const limits = limitsOf(described);
  const isRoot = !id.includes("_", id.indexOf("form_") + 5);
  const errors = rawErrors ?? [];
  const description = typeof described.description === "string" ? described.description : "";
  const help = [description, limits === "" ? "" : `(${limits})`].filter((part) => part !== "").join(" ");
  return (
    <Box className={errors.length > 0 ? "mm-field mm-field-bad" : "mm-field"} mb={isRoot ? 0 : 3}>
      {!isRoot && label !== "" ? (
        <label htmlFor={id} className="mm-label">
          {label}
          {required === true ? <span aria-hidden="true"> *</span> : null}
        </label>
      ) : null}
      {children}
      {errors.map((error) => (
        <Text key={error} className="mm-field-error" role="alert">
          {error}
        </Text>
      ))}
      {help === "" || isRoot ? null : (
        <Text id={`${id}__description`} className="mm-help">
          {help}
        </Text>
      )}
    </Box>
  );
}

function ObjectFieldTemplate({ properties, fieldPathId, formData, schema }: ObjectFieldTemplateProps) {
  // Which fields come first is settled when the form opens: a field does not move while it is typed into.
  const [first] = useState(() => new Set([...firstFields(schema as Schema), ...Object.keys((formData ?? {}) as object)]));
  if (fieldPathId.path.length > 0) {
    return (
      <Stack gap={0} className="mm-nested">
        {properties.map((property) => property.content)}
      </Stack>
    );
  }
  const main = properties.filter((property) => first.has(property.name));
  const others = properties.filter((property) => !first.has(property.name));
  return (
    <Stack gap={0}>
      {main.map((property) => property.content)}
      {others.length > 0 ? (
        <details className="mm-more" open={main.length === 0 || others.length <= 3}>
          <summary>
            {plural(others.length, "1 setting at the default", "{n} settings at the default")}
          </summary>
          {others.map((property) => property.content)}
        </details>
      ) : null}
    </Stack>
  );
}

function ArrayFieldTemplate({ items, canAdd, onAddClick, title }: ArrayFieldTemplateProps) {
  return (
    <Stack gap={1}>
      {items}
      {canAdd === true ? (
        <Button size="2xs" variant="ghost" alignSelf="flex-start" onClick={onAddClick} aria-label={t("Add to {title}", { title })}>
          <Plus size={12} />{" "}{t("Add")}
        </Button>
      ) : null}
    </Stack>
  );
}

function ArrayFieldItemTemplate({ children, buttonsProps, hasToolbar }: ArrayFieldItemTemplateProps) {
  return (
    <HStack gap={1} align="flex-start" className="mm-item">
      <Box flex={1}>{children}</Box>
      {hasToolbar && buttonsProps.hasRemove ? (
        <IconButton size="xs" variant="ghost" aria-label={t("Remove")} onClick={buttonsProps.onRemoveItem}>
          <X size={14} />
        </IconButton>
      ) : null}
    </HStack>
  );
}

const Nothing = () => null;

export const templates: NonNullable<ThemeProps["templates"]> = {
  FieldTemplate,
  ObjectFieldTemplate,
  ArrayFieldTemplate,
  ArrayFieldItemTemplate,
  DescriptionFieldTemplate: Nothing,
  TitleFieldTemplate: Nothing,
  ErrorListTemplate: Nothing,
  FieldErrorTemplate: Nothing,
  FieldHelpTemplate: Nothing,
  ButtonTemplates: { SubmitButton: Nothing },
};

/** How the parts of the configuration form are laid out. */

import { Box, Button, HStack, IconButton, Stack, Text } from "@chakra-ui/react";
import type {
  ArrayFieldItemTemplateProps,
  ArrayFieldTemplateProps,
  FieldTemplateProps,
  ObjectFieldTemplateProps,
  TemplatesType,
} from "@rjsf/utils";
import { Plus, X } from "lucide-react";

import { type Schema, limitsOf } from "../core/schema";

function FieldTemplate({ id, label, required, rawErrors, hidden, displayLabel, schema, children }: FieldTemplateProps) {
  if (hidden === true) return null;
  const described = schema as Schema;
  const limits = limitsOf(described);
  const isRoot = !id.includes("_", id.indexOf("form_") + 5);
  const errors = rawErrors ?? [];
  const description = typeof described.description === "string" ? described.description : "";
  const help = [description, limits === "" ? "" : `(${limits})`].filter((part) => part !== "").join(" ");
  const shown = displayLabel !== false || described.type === "object";
  return (
    <Box className={errors.length > 0 ? "mm-field mm-field-bad" : "mm-field"} mb={isRoot ? 0 : 3}>
      {shown && !isRoot && label !== "" ? (
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

function ObjectFieldTemplate({ properties, fieldPathId }: ObjectFieldTemplateProps) {
  const nested = fieldPathId.path.length > 0;
  return (
    <Stack gap={0} className={nested ? "mm-nested" : undefined}>
      {properties.map((property) => property.content)}
    </Stack>
  );
}

function ArrayFieldTemplate({ items, canAdd, onAddClick, title }: ArrayFieldTemplateProps) {
  return (
    <Stack gap={1}>
      {items}
      {canAdd === true ? (
        <Button size="2xs" variant="ghost" alignSelf="flex-start" onClick={onAddClick} aria-label={`Add to ${title}`}>
          <Plus size={12} /> Add
        </Button>
      ) : null}
    </Stack>
  );
}

function ArrayFieldItemTemplate({ children, buttonsProps, hasToolbar }: ArrayFieldItemTemplateProps) {
  return (
    <HStack gap={1} align="flex-start" className="mm-item">
      <Box flex={1}>{children}</Box>
      {hasToolbar && buttonsProps.hasRemove === true ? (
        <IconButton size="xs" variant="ghost" aria-label="Remove" onClick={buttonsProps.onRemoveItem}>
          <X size={14} />
        </IconButton>
      ) : null}
    </HStack>
  );
}

const Nothing = () => null;

export const templates: Partial<TemplatesType> = {
  FieldTemplate,
  ObjectFieldTemplate,
  ArrayFieldTemplate,
  ArrayFieldItemTemplate,
  DescriptionFieldTemplate: Nothing,
  TitleFieldTemplate: Nothing,
  ErrorListTemplate: Nothing,
  FieldErrorTemplate: Nothing,
  FieldHelpTemplate: Nothing,
};

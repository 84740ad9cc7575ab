/**
 * What rjsf asks a validator for: which branch of a union a value belongs to. Errors are the server's, so that
 * canvas, command line and loader say the same. The usual validator compiles schemas to code, which a strict
 * content security policy forbids; this one interprets them.
 */

import { Validator } from "@cfworker/json-schema";
import { type RJSFSchema, type ValidationData, type ValidatorType, createErrorHandler } from "@rjsf/utils";

function isValid(schema: RJSFSchema, value: unknown, root: RJSFSchema): boolean {
  const complete = { ...schema, $defs: { ...(root.$defs ?? {}), ...(schema.$defs ?? {}) } };
  return new Validator(complete as never, "2020-12").validate(value ?? null).valid;
}

export const validator: ValidatorType = {
  isValid,
  rawValidation: () => ({ errors: [] }),
  validateFormData: (formData: unknown): ValidationData<unknown> => {
    createErrorHandler(formData);
    return { errors: [], errorSchema: {} };
  },
  reset: () => undefined,
};

export default validator;

// What the adapters' files share: the place of the input in a request, options with their defaults, and the forms of names.
// As app/suspects/adapters/frame.py.

import { PROTOCOL } from "../protocol.js";
import { text } from "./canonical.js";
import { NUMBER_ENCODINGS, TEXT_ENCODINGS } from "./inputs.js";

export const HOLE = Object.freeze({ hole: PROTOCOL });

export const SEGMENT = "[A-Za-z0-9_~\\-][A-Za-z0-9._~\\-]*";
export const ROUTE = `${SEGMENT}(?:/${SEGMENT})*`;
export const segment = () => text(1, 200, SEGMENT);
export const name = () => text(1, 200);

export const JSON_ENCODINGS = [...NUMBER_ENCODINGS, ...TEXT_ENCODINGS];

// Options with their defaults, read by a form.
export function optionsOf(defaults, form, given) {
  const known = { ...defaults, ...given };
  form(known);
  return known;
}

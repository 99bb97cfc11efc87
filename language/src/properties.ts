/**
 * The columns of the scorecard: what one would want of a proposal. Their names and meanings only; what decides them is
 * `judge/properties.ts`.
 */

/** In the order of the scorecard's columns. */
export const propertyRows = [
  { id: "terminates", title: "No endless loop." },
  {
    id: "contained",
    title: "The VM lives on, and its other tasks make the progress that they would have made.",
  },
  { id: "right-victim", title: "The task that touched the page is the one that is told, also among many." },
  { id: "precise-load", title: "A failed load is reported at its instruction." },
  { id: "precise-store", title: "A failed store is reported at its instruction." },
  { id: "kernel-access", title: "The guest kernel's own access fails with an error it survives." },
  { id: "no-silent-data", title: "Zero or stale bytes are never presented as data." },
  { id: "host-truncation", title: "Also when the truncation bypasses the server." },
  {
    id: "host-unharmed",
    title: "The truncating process is held up for a second at most and not refused, no core burns.",
  },
  { id: "prevented", title: "No access ever meets a lost page that is still mapped." },
  { id: "reversible", title: "After the file has grown again, the task sees its new bytes." },
  { id: "nmi-safe", title: "An NMI between delivery and reading loses nothing." },
  { id: "nested", title: "Also in a nested guest." },
  { id: "any-backing", title: "Also for NVDIMM, a full tmpfs, an I/O error." },
  {
    id: "keeps-apf",
    title: "A page that merely needs I/O still lets other tasks run (async page faults stay).",
  },
  { id: "any-cpu", title: "Intel, AMD, arm64, TDX, SEV-ES alike." },
] as const;

export type PropertyId = (typeof propertyRows)[number]["id"];
export const propertyIds: readonly string[] = propertyRows.map(({ id }) => id);

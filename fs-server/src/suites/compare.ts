/**
 * The suites' complaints about a mount beside those about the folder underneath: what is new is a difference, and a
 * difference is a defect unless fixtures/fs-errata.json lists it. An entry that nothing matches any more is one, too.
 */
import type { ServeMode } from "./modes.ts";

/** Of a guest: without and with a DAX window. */
export type GuestMount = "virtio-fs" | "virtio-fs-dax";

export type Erratum = {
  readonly id: string;
  /** A mode of `serve`, or a guest's mount. */
  readonly transport: ServeMode | GuestMount;
  /** A suite's name. */
  readonly suite: string;
  /** Regular expression that a complaint matches as a whole. */
  readonly complaint: string;
  readonly reason: string;
  readonly link: string;
};

export type Comparison = {
  readonly suite: string;
  readonly transport: string;
  /** Complaints about the folder itself; they are not the server's. */
  readonly underneath: readonly string[];
  readonly known: readonly { readonly complaint: string; readonly erratum: string }[];
  readonly differences: readonly string[];
};

export function compare(
  about: { readonly suite: string; readonly transport: string },
  underneath: readonly string[],
  mounted: readonly string[],
  errata: readonly Erratum[],
): Comparison {
  const own = new Set(underneath);
  const known: { complaint: string; erratum: string }[] = [];
  const differences: string[] = [];
  for (const complaint of mounted) {
    if (own.has(complaint)) continue;
    const entry = errata.find(
      ({ suite, transport, complaint: pattern }) =>
        suite === about.suite &&
        transport === about.transport &&
        new RegExp(`^(?:${pattern})$`).test(complaint),
    );
    if (entry === undefined) differences.push(complaint);
    else known.push({ complaint, erratum: entry.id });
  }
  return { ...about, underneath, known, differences };
}

/** Entries about what was run that no complaint matched: they must go. */
export function unmatched(comparisons: readonly Comparison[], errata: readonly Erratum[]): readonly string[] {
  const matched = new Set(comparisons.flatMap(({ known }) => known.map(({ erratum }) => erratum)));
  const ran = new Set(comparisons.map(({ suite, transport }) => `${transport} ${suite}`));
  return errata
    .filter(({ suite, transport }) => ran.has(`${transport} ${suite}`))
    .map(({ id }) => id)
    .filter((id) => !matched.has(id));
}

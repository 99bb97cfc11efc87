/** The measurements of `bench guards`: races of a guest against a truncater, how long the host was held up, the price. */
import type { Quantiles } from "../../guards/race.ts";
import type { GuardRecord, Measurement, PriceRecord, RaceRecord } from "../../guards/records.ts";
import { type Markup, markup } from "../markup.ts";
import { type Histogram, histogramFigure } from "./plots.ts";

const guestNames: Readonly<Record<RaceRecord["guest"], string>> = {
  "one-vcpu": "one vCPU",
  "two-vcpus": "two vCPUs",
  linux: "Linux, two vCPUs",
};

const labelOf = ({ guard, guest }: RaceRecord): string =>
  `${guard === "none" ? "no guard" : guard}, ${guestNames[guest]}`;

const number = (value: number): string => Math.round(value).toLocaleString("en-US");

/** `p50, p99, max`. */
const quantilesOf = (of: Quantiles | null): string =>
  of === null ? "" : [of.p50, of.p99, of.max].map(number).join(", ");

function tableMarkup(label: string, head: readonly string[], rows: readonly (readonly string[])[]): Markup {
  const cells = rows.map(
    ([first = "", ...rest]) =>
      markup`<tr><th scope="row">${first}</th>${rest.map((cell) => markup`<td>${cell}</td>`)}</tr>`,
  );
  return markup`<div class="scroll" tabindex="0" role="region" aria-label="${label}"><table><thead><tr>${head.map((one) => markup`<th scope="col">${one}</th>`)}</tr></thead><tbody>${cells}</tbody></table></div>`;
}

function raceRow(race: RaceRecord): readonly string[] {
  if (race.refusal !== null) return [labelOf(race), `not armed: ${race.refusal}`, "", "", "", "", ""];
  const wrongStores = race.changedAfterAcknowledgement + race.dirtyAfterRegrow;
  return [
    labelOf(race),
    number(race.done) + (race.stuck ? " (stuck)" : ""),
    number(race.lost),
    number(race.denied),
    `${race.staleLoads} of ${number(race.loads)}`,
    race.stores === 0 ? "" : `${wrongStores} of ${number(race.stores)}`,
    quantilesOf(race.hostUs),
  ];
}

function racesMarkup(races: readonly RaceRecord[]): Markup {
  const head = ["guard, guest", "rounds", "lost", "denied", "stale loads", "wrong stores"];
  const held = "p50, p99, max in us";
  return markup`<h3>Races: a guest that never stops touching, a host that truncates, regrows and rewrites</h3>
<p class="soft">Lost: a vCPU met a lost page that nobody had taken away; a VMM that stops there has lost the VM. The last column: how long open(2) and ftruncate(2) took the host together.</p>${tableMarkup("The races", [...head, held], races.map(raceRow))}`;
}

const histogramOf = (label: string, of: Measurement): readonly Histogram[] =>
  of === null ? [] : [{ label, bins: of.histogram.map(({ upToUs, count }) => ({ upTo: upToUs, count })) }];

function priceMarkup({ rounds, rows, sealedCopyMs }: PriceRecord): Markup {
  const guards = [...new Set(rows.map(({ guard }) => guard))];
  const operations = [...new Set(rows.map(({ operation }) => operation))];
  const table = operations.map((operation) => [
    operation,
    ...guards.map((guard) => {
      const row = rows.find((one) => one.guard === guard && one.operation === operation);
      return row === undefined ? "" : `${number(row.p50)} / ${number(row.p99)}`;
    }),
  ]);
  const names = guards.map((guard) => (guard === "none" ? "no guard" : guard));
  const copy =
    sealedCopyMs === null
      ? null
      : markup`<p>A sealed copy of 64 MiB takes ${number(sealedCopyMs.p50)} ms (${number(sealedCopyMs.max)} at most).</p>`;
  return markup`<h3>Price: p50 / p99 in us, ${number(rounds)} rounds in turn</h3>${tableMarkup("The price", ["operation", ...names], table)}${copy}`;
}

/** null where no guard was measured. */
export async function guardsMarkup(records: readonly GuardRecord[]): Promise<Markup | null> {
  if (records.length === 0) return null;
  const races = records.filter((record) => record.type === "race");
  const notified = races.filter(({ guard }) => guard === "notify");
  const windows = await histogramFigure(
    notified.flatMap((race) => histogramOf(labelOf(race), race.windowUs)),
    {
      title: "The window of notify: from the call of ftruncate(2) to the mapping gone",
      axis: "microseconds, up to",
      counted: "rounds",
    },
  );
  const held = await histogramFigure(
    races.flatMap((race) => histogramOf(labelOf(race), race.hostUs)),
    {
      title: "How long the host was held up: from open(2) to the end of ftruncate(2)",
      axis: "microseconds, up to",
      counted: "rounds",
    },
  );
  const prices = records.filter((record) => record.type === "guard-price").map(priceMarkup);
  return markup`${races.length === 0 ? null : racesMarkup(races)}${windows}${held}${prices}`;
}

/** `daxfault list`: scenarios, proposals and the rest, one line each. */

import { exitCodes, needsOf, needsText, presetOf, properties } from "../../../language/src/index.ts";
import { engineNames, engineRow, loadEngine } from "../engines/registry.ts";
import { visible } from "../report/encode.ts";
import { isNarrow, paragraph, type Style } from "../report/style.ts";
import type { ListLine } from "./lines/list.ts";
import { openJson } from "./output.ts";
import { openCatalogue, type SourceOptions } from "./selection.ts";

export const listTopics = ["scenarios", "proposals", "engines", "properties"] as const;
export type ListTopic = (typeof listTopics)[number];

type Row = { readonly id: string; readonly text: string; readonly record: ListLine };

async function rowsOf(topic: ListTopic, sources: SourceOptions): Promise<readonly Row[]> {
  const catalogue = openCatalogue(sources);
  switch (topic) {
    case "scenarios":
      return catalogue.scenarios
        .map(({ scenario }) => scenario)
        .map(({ id, purpose, hash, layout, backing, properties: names, ...rest }) => ({
          id,
          text: purpose,
          record: {
            type: "scenario",
            id,
            purpose,
            hash,
            layout,
            backing: backing.kind,
            properties: names,
            proposals: rest.proposals,
          },
        }));
    case "proposals":
      return catalogue.proposals.map(({ proposal }) => ({
        id: proposal.id,
        text: `${proposal.title} [${needsText(needsOf(proposal))}]`,
        record: {
          type: "proposal",
          ...proposal,
          variantOf: presetOf(proposal.id)?.variantOf ?? null,
          needs: needsOf(proposal),
          needsText: needsText(needsOf(proposal)),
        },
      }));
    case "engines":
      return Promise.all(
        engineNames.map(async (name) => {
          const engine = await loadEngine(name);
          const available = await engine.available();
          const suffix = available.kind === "yes" ? "" : ` Not here: ${available.reason}.`;
          return {
            id: name,
            text: engine.describe() + suffix,
            record: {
              type: "engine",
              id: name,
              text: engine.describe(),
              real: engineRow(name).nature.isReal,
              available,
            },
          };
        }),
      );
    case "properties":
      return properties.map(({ id, title, decide }) => ({
        id,
        text: decide === null ? `${title} (nothing decides it yet)` : title,
        record: { type: "property", id, title, decided: decide !== null },
      }));
  }
}

/** Side by side in one line, as grep wants it; on a narrow terminal below each other. */
export function rowLines(id: string, text: string, style: Style): readonly string[] {
  if (!isNarrow(style)) return [`${style.bold(id)}  ${text}`];
  return [style.bold(id.trimEnd()), ...paragraph(text, style.widthColumns, { first: 2, rest: 2 })];
}

export async function list(
  topic: ListTopic,
  options: SourceOptions & { readonly json?: string },
  style: Style,
): Promise<number> {
  const rows = (await rowsOf(topic, options)).map((row) => ({ ...row, text: visible(row.text) }));
  const json = openJson<ListLine>(options.json);
  for (const { record } of rows) json.write(record);
  if (!json.isStdout) {
    const width = Math.max(...rows.map(({ id }) => id.length));
    for (const { id, text } of rows) {
      for (const line of rowLines(id.padEnd(width), text, style)) console.log(line);
    }
  }
  return exitCodes.ok;
}

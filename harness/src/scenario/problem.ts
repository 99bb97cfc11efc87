/** What is wrong with a scenario file. All of it, so that one look mends the file. */

/** Where (JSON path, such as `actors.victim.steps[2]`) and what (value and limit). */
export type Problem = { readonly at: string; readonly message: string };

/** Collects what is wrong while parsing goes on. */
export class Problems {
  readonly list: Problem[] = [];

  add(at: string, message: string): void {
    this.list.push({ at, message });
  }
}

export class ScenarioError extends Error {
  override readonly name = "ScenarioError";
  readonly file: string;
  readonly problems: readonly Problem[];

  constructor(file: string, problems: readonly Problem[]) {
    const lines = problems.map(
      (problem) => `${file}: ${problem.at === "" ? "" : `${problem.at}: `}${problem.message}`,
    );
    super(lines.join("\n"));
    this.file = file;
    this.problems = problems;
  }
}

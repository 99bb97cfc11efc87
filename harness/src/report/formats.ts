/** The files that a report can be written to, by option. Each renderer is loaded only when it is asked for. */
import type { Report } from "./report.ts";

export type FormatName = "junit" | "ktap" | "markdown" | "html" | "text";

export type Format = {
  readonly name: FormatName;
  /** One line for `--help`. */
  readonly help: string;
  render(report: Report): Promise<string>;
};

export const formats: readonly Format[] = [
  {
    name: "html",
    help: "write a report of one file for a browser",
    render: async (report) => (await import("./html/page.ts")).htmlPage(report),
  },
  {
    name: "text",
    help: "write a report for a mailing list, 72 columns",
    render: async (report) => (await import("./mail.ts")).mailText(report),
  },
  {
    name: "markdown",
    help: "write a summary for a pull request",
    render: async (report) => (await import("./markdown.ts")).markdownText(report),
  },
  {
    name: "junit",
    help: "write JUnit XML for continuous integration",
    render: async (report) => (await import("./junit.ts")).junitText(report),
  },
  {
    name: "ktap",
    help: "write KTAP, as kselftest and KernelCI read it",
    render: async (report) => (await import("./ktap.ts")).ktapText(report),
  },
];

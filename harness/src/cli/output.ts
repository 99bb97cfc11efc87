/** Where a command writes: reports to files or to standard output, progress to a terminal. */
import { visible } from "../report/encode.ts";
import { type FormatName, formats } from "../report/formats.ts";
import type { Report } from "../report/report.ts";
import { caseTitle } from "../report/text.ts";
import type { RunObserver } from "../run/observer.ts";
import { openOutput } from "./output-file.ts";
import { UsageError } from "./usage.ts";

export { type JsonOutput, openJson } from "./json-output.ts";

/** The FILE of each format that is asked for. */
export type ReportOptions = { readonly [name in FormatName]?: string };

export type ReportOutputs = {
  /** Standard output carries one of the formats: nothing else may be written there. */
  readonly isStdout: boolean;
  /** Renders and writes all of them. */
  write(report: Report): Promise<void>;
};

/** Opens the files of all formats asked for, before anything runs: a wrong path must not cost a run. */
export function openReports(options: ReportOptions): ReportOutputs {
  const open = formats.flatMap((format) => {
    const target = options[format.name];
    return target === undefined ? [] : [{ format, output: openOutput(`--${format.name}`, target) }];
  });
  const onStdout = open.filter(({ output }) => output.isStdout);
  if (onStdout.length > 1) {
    throw new UsageError(
      `only one of ${onStdout.map(({ format }) => `--${format.name}`).join(", ")} can be written to -`,
    );
  }
  return {
    isStdout: onStdout.length > 0,
    async write(report) {
      for (const { format, output } of open) output.write(Buffer.from(await format.render(report)));
    },
  };
}

export type Progress = {
  /** A case begins. */
  start(name: string): void;
  /** It has ended. */
  end(name: string): void;
  clear(): void;
};

const TICK_MS = 1000;

/** `1 min 5 s`. */
function timeText(seconds: number): string {
  const whole = Math.round(seconds);
  return whole < 60 ? `${whole} s` : `${Math.floor(whole / 60)} min ${whole % 60} s`;
}

/** A case that is under way. */
export type Running = { readonly name: string; readonly seconds: number };

/** Longer than this, a case is named as slow: most take less than a second. */
const SLOW_S = 5;
/** The first cases start the engines: a rate of two or three of them would mislead. */
const RATED_MIN = 5;

/** How far a run is: `12 of 528 done, 2 running, 4.0/s, about 2 min 10 s left; slow: load-after-truncate x kvm 31 s`. */
export function progressText(
  done: number,
  total: number,
  elapsedS: number,
  running: readonly Running[],
): string {
  const rate = done / elapsedS;
  const speed =
    done < RATED_MIN || elapsedS <= 0
      ? ""
      : `, ${rate < 10 ? rate.toFixed(1) : Math.round(rate)}/s, about ${timeText((total - done) / rate)} left`;
  const slow = running.filter(({ seconds }) => seconds >= SLOW_S).sort((a, b) => b.seconds - a.seconds);
  const named =
    slow.length > 0
      ? `; slow: ${slow.map(({ name, seconds }) => `${name} ${timeText(seconds)}`).join(", ")}`
      : running.length === 0
        ? ""
        : `: ${running.map(({ name }) => name).join(", ")}`;
  return `${done} of ${total} done, ${running.length} running, ${timeText(elapsedS)}${speed}${named}`;
}

export type StatusLine = { readonly isShown: boolean; show(text: string): void; clear(): void };

/** One line on stderr that replaces itself; nothing where stderr is no terminal. */
export function openStatusLine(stream: NodeJS.WriteStream = process.stderr): StatusLine {
  if (stream.isTTY !== true) return { isShown: false, show() {}, clear() {} };
  const erase = "\r\u001b[K";
  return {
    isShown: true,
    show: (text) => void stream.write(`${erase}${visible(text).slice(0, (stream.columns ?? 80) - 1)}`),
    clear: () => void stream.write(erase),
  };
}

/** How far a run is, on the status line. */
export function openProgress(total: number, stream: NodeJS.WriteStream = process.stderr): Progress {
  const line = openStatusLine(stream);
  if (!line.isShown) return { start() {}, end() {}, clear() {} };
  const startMs = performance.now();
  /** Since when, in milliseconds. */
  const running = new Map<string, number>();
  let done = 0;
  const show = (): void => {
    const nowMs = performance.now();
    const names = [...running].map(([name, sinceMs]) => ({ name, seconds: (nowMs - sinceMs) / 1000 }));
    line.show(progressText(done, total, (nowMs - startMs) / 1000, names));
  };
  // A case may take its time: the clock shows that the run is alive.
  const ticker = setInterval(show, TICK_MS);
  ticker.unref();
  return {
    start(name) {
      running.set(name, performance.now());
      show();
    },
    end(name) {
      running.delete(name);
      done += 1;
      show();
    },
    clear() {
      clearInterval(ticker);
      line.clear();
    },
  };
}

/** Shows on the status line how far a run is. */
export function progressObserver(total: number): Partial<RunObserver> {
  const progress = openProgress(total);
  return {
    onCaseStart: (planned) => progress.start(caseTitle({ planned })),
    onCaseEnd: (result) => progress.end(caseTitle(result)),
    onLaneEnd: () => progress.clear(),
  };
}

/** Tiny protocols whose state counts and faults are known by counting on paper. */
import { type Action, Layout, type Model, tableModel } from "../../src/index.ts";

/** `actors` counters from 0 to `limit`: (limit + 1) ^ actors states, one terminal. */
export function counters(actors: number, limit: number): Model {
  const layout = new Layout();
  const at = layout.field("counter", actors);
  const actions = Array.from(
    { length: actors },
    (_, index): Action => ({
      name: `count ${index}`,
      actor: `counter${index}`,
      local: true,
      guard: (s) => (s[at + index] as number) < limit,
      apply: (s) => {
        s[at + index] = (s[at + index] as number) + 1;
      },
    }),
  );
  return tableModel({ name: "counters", layout, actions, unfairActors: [], initial: (s) => s.fill(0) });
}

/** Dining philosophers who all take the left fork first. Deadlock after `seats` steps. */
export function philosophers(seats: number): Model {
  const layout = new Layout();
  const fork = layout.field("fork", seats);
  const phase = layout.field("phase", seats);
  const actions = Array.from({ length: seats }, (_, seat): Action[] => {
    const left = fork + seat;
    const right = fork + ((seat + 1) % seats);
    const actor = `philosopher${seat}`;
    return [
      {
        name: `${seat} takes left`,
        actor,
        guard: (s) => s[phase + seat] === 0 && s[left] === 0,
        apply: (s) => {
          s[left] = 1;
          s[phase + seat] = 1;
        },
      },
      {
        name: `${seat} takes right`,
        actor,
        guard: (s) => s[phase + seat] === 1 && s[right] === 0,
        apply: (s) => {
          s[right] = 1;
          s[phase + seat] = 2;
        },
      },
      {
        name: `${seat} puts both back`,
        actor,
        guard: (s) => s[phase + seat] === 2,
        apply: (s) => {
          s[left] = 0;
          s[right] = 0;
          s[phase + seat] = 0;
        },
      },
    ];
  }).flat();
  return tableModel({ name: "philosophers", layout, actions, unfairActors: [], initial: (s) => s.fill(0) });
}

/**
 * A guest that retries until a worker has run. `workerAlwaysReady`: the worker is enabled all the time, so fairness ends
 * the retrying; else it is enabled only between two retries, and weak fairness does not help.
 * @param idle actors that never can act, ahead of these
 */
export function retry(workerAlwaysReady: boolean, idle = 0): Model {
  const layout = new Layout();
  const waiting = layout.field("waiting");
  const done = layout.field("done");
  const actions: Action[] = [
    ...Array.from({ length: idle }, (_, i) => ({
      name: `idle ${i}`,
      actor: `idle ${i}`,
      guard: () => false,
      apply: () => {},
    })),
    {
      name: "guest asks",
      actor: "guest",
      guard: (s) => s[done] === 0 && s[waiting] === 0,
      apply: (s) => {
        s[waiting] = 1;
      },
    },
    {
      name: "guest gives up",
      actor: "guest",
      guard: (s) => s[done] === 0 && s[waiting] === 1,
      apply: (s) => {
        s[waiting] = 0;
      },
    },
    {
      name: "worker finishes",
      actor: "worker",
      guard: (s) => s[done] === 0 && (workerAlwaysReady || s[waiting] === 1),
      apply: (s) => {
        s[done] = 1;
      },
    },
  ];
  return tableModel({ name: "retry", layout, actions, unfairActors: [], initial: (s) => s.fill(0) });
}

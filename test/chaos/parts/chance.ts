/** Chance that a seed repeats: the same kills in the same order, though never at the same instant. */
export interface Chance {
  /** From 0 up to, not including, `below`. */
  whole(below: number): number;
  between(least: number, most: number): number;
  one<T>(of: readonly T[]): T;
  /** True this often, 0 to 1. */
  is(share: number): boolean;
  /** All of them, in another order. */
  shuffled<T>(of: readonly T[]): T[];
}

export function chance(seed: number): Chance {
  let state = seed >>> 0;
  // mulberry32: short, and even enough for dice.
  const next = (): number => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
  const whole = (below: number): number => Math.floor(next() * below);
  return {
    whole,
    between: (least, most) => least + next() * (most - least),
    one: (of) => {
      const found = of[whole(of.length)];
      if (found === undefined) throw new Error("nothing to choose from");
      return found;
    },
    is: (share) => next() < share,
    shuffled: (of) => {
      const left = [...of];
      return of.flatMap(() => left.splice(whole(left.length), 1));
    },
  };
}

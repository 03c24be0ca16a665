// The 256 constants of the rolling hash, those of the crate `gearhash`: all Xet clients must cut alike.
import { Buffer } from "node:buffer";

/** Little-endian u64, one for each byte value. */
const WORDS = Buffer.from(
  [
    "WfVA6KnTiLDWIO0598dSVqtyiYlpibJFd8eOttWJCmu3MXqLPlePNkvZNuncNsYdttVUVU5MeiDLmiMoRrN0pBK5oxw+qAY797oCL2yN55CKmg0V",
    "9y3J4a3ThhA6BZWOIgc6uPH0Llquf4CflKwPpYHW2IDrA3MOD61wFdx+sJl2MP1VtS+daGiknhGCUAAAKMyPqAaDsMT9Sjf2imewPjZ0rYarh5/x",
    "Nsdrvr+fEvLtpJhcV0kRSMV7R5UGAQAAzOqcGoA3uh9tm6Rj1m/wO0uH44KXfmiZ49hQqnMGoXkg9BFins+s5HGQV4cf5yAlm4oaeP3T1StzyBHd",
    "zU3eAC85h1ocManq/0C8F7aOdNtvvyD2jZpXr7HCCRva5aaGLqEiwwrDL8xnQvfB/ipeNXukIcD0yJktw88ElEpL3rppfXAdchi19yAs83tYtoYy",
    "DCevhoi2AAB5kIrb5NYVoZnhspecfk9IAeMTV7d7ysxg8bArpoQlv8i8XWIT6OetWpWHDZRwAABvYp4TCJHmiqI43i/Xane9z8D8wh8Aa/snxHvm",
    "uHSkx1hd6xAW8fa60XDnbVsfywlHTH2X5hmysEqtp244vMwAAT+X3wqdhMxw92oBfe+jc/69vYbT0gfIMBd5bJbJKn/aBMXGa6g30J1gqh5mfPHz",
    "h+aqTbAmpqwHW0pPN5ladd6uLFvmfoOQhQdW/ZOt6G7Y7VMQ4dkAANfbHNKyOwaestIBKvF3qwdEG2TmVQJV7MYUnESolPt49fXAxhsOUcfjyuQ2",
    "CzIAAC0aiywmM3yCREHqSAtfZxTr7I1JptN7Jl4D9YL5b5HxiPs09H8bIobYSW84586+nUqPD8jK+Fjq2GT8koYZjQA2mr+6T3A4bUy+59EHyzLg",
    "kAhFrfYhjSKliSXAv7FcY3HOopxzoSBGWPvlquPf56frDTwrk8oQDHvtr4To/icnH6vi+W0c36Ij9XQHrNHNTU7iM63/cAAAFniXxXvorKJJYCi0",
    "WieSmFmJ8d2BEYbCGT5IQqBymbt4MFFmN81w72SY/KsTBQAAg0DJWBi2WMDe4CWXhVDoCZR9Pvg7+5eRzku2Em1iHn7RV3t/UFQMUhYk4nRxeeG+",
    "h1XpIjKs2W8+v9+afJUjABW+SyN+fRygu4yjuFjHoqswKz7szqAfDZG5YH6LpbYLNWain1vdM0OjwQFAfTv9wicRc1QkgEH7yxgNpYVhpWVPtYSH",
    "vQJ69mNQ5mfdEW9pqxSo/CIgAABS2Lktkb7WjFeKrum2iVFpKAzaCrVTlO5ehHgaqV782GenShoZv4ar5RVkyLXGAAAuogiOFxBzJiXKiwcbEC3t",
    "+6gmsoTtQTsG3CgPEiLmEyZtcPvr9RWjzroBM07DFoiu/XG7nFs56UgWci4g6SwAHMmzKx3bg0KlprHSGkZ912uG627kF+zifMT7OUC+4LgEnSnV",
    "xGCh3jQ2jNLIhux+maOYnxKtGSHvg6Jha/TMphfGWPbezlIsg92saRGHtC3py57z1vAAAImUL43J2NU9hPUBK6JyGIryPHsOxKSC8pahG8ss7CCA",
    "E+NZnuC2k2brg3zMGc4AADucR/Y1V8sgW1rXWTe/LnZ1OWk9gv57INXZnDMSwX3XA31ihEKDp5vpUV/pE8V9IRZ4XvwpGnuyLWa7MZjN1QBMc3Vt",
    "gJvjcSMa+wbwKld+hR/pai9Pc6Ly3SwCtcaCv96gYQfG6jtcmGlBR7uTyM0BfhhcYYUQbV18J6wwrvh3kSwqEoFrfJFnadGtmbZ1W5sGmudqzwAA",
    "BBHeYPoKxPPDZ5GlehJjIE2J0Wki5h1iJkcr5h2siNE8Z0sV4jZwEB06VShfuAAAPW8jGExO7/IC9rkRZt7W2RyRR/tVefyhvY0pLwP9hevh+r6z",
    "L1Anvh5mzcRRQgPjNhgHVNNkE0Q+mPJ1bLOCAPBm+hYDkUWx98pHmJwGHAIhUktax98QKbWoVxw+NVtzbNmO6SwxRM5l+r0GRS6UvBuUVxKnhlDw",
    "rc5R0xWyw/4CQhTgVRCuAFTkQm+EQEv1yLy8yNl/AAD+m94X8569vxJOhfIvMASo1NjlpVdJzjmEujdWpOK5/4uBoJ4drblVihcZ88uKAAA4+/vQ",
    "yL/iSOi1SOhBmOOLi6CWBhYSJw4qJERL6JYQ1TrhkmcXugERnWgxRQ93LsJsxbty8u+JFuxQVn8ZKqkATnihvZBZdryuuPyS40EUxqDkMe0sOuEH",
    "TZ1OI4Tpy5LFin27cvVPj9A7lgvAcJYLAesDGlhalWJUAgDq5YNfZJnyiM0W5fxBz5h62kiX2rv6RUj+sqoAAFVl9ZsGG3YZVq22Q4Nej4vZIUgU",
    "/RxdPo/NsKIsHlzsf7X7p/7g9/oblhK60wAAAI6xAYQXkD/a6186422Q/3DncGnAp9UnBekTfGBz59girDs8ZN9wq8njEr6K3Mak7YrnMwBBH+/s",
    "y3KsdLLCJAC0AKlPlQ10BgRjPTKbKXod1erLmLJ8w7Obc3hhx+OGyYr1Rks26qufVsyFr8UUom2Ej6O32D6kF+vbmh1R7Mxu+1ozEwmzyvnS7hX0",
    "xWBeSrRyNlBnaQAAh7tUFBIdpZ0WyLu5Ex4yhI3dL6u2bz37jQoWju1eMGDobJTpFEu/y8MQGzhjTwAAEE7Mb4G31QdVgWpqcjal5d1/oEc0sq9X",
    "lNPJq/dG8xg90xrWVcZtY/bz9zlJq4vMexjdwQapx2M=",
  ].join(""),
  "base64",
);

/** The lower and the upper 32 bits of each constant: V8 computes with halves of u64 faster than with BigInt. */
export const GEAR_LOW = Int32Array.from({ length: 256 }, (_, byte) => WORDS.readInt32LE(8 * byte));
export const GEAR_HIGH = Int32Array.from({ length: 256 }, (_, byte) => WORDS.readInt32LE(8 * byte + 4));

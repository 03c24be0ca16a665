// Presigned addresses of the bucket's S3 interface (SigV4 in the query), so that bytes need not pass through the Worker.
import { AwsV4Signer } from "aws4fetch";
import type { S3Bucket } from "../config";

export type PresignedGet = {
  readonly key: string;
  /** When the address was issued, in milliseconds since 1970; it is good for `lifetimeS` seconds from then. */
  readonly issuedAt: number;
  readonly lifetimeS: number;
  /** Exactly this `Range` header must then come with the request; without, any may. */
  readonly range?: string;
  /** What the answer's Content-Disposition shall be. */
  readonly disposition?: string;
};

/** The address of a GET that the bucket answers without any other credential. */
export async function presignGet(s3: S3Bucket, get: PresignedGet): Promise<string> {
  const url = new URL(`${s3.endpoint}/${s3.bucket}/${get.key}`);
  url.searchParams.set("X-Amz-Expires", String(get.lifetimeS));
  if (get.disposition !== undefined) url.searchParams.set("response-content-disposition", get.disposition);
  const signer = new AwsV4Signer({
    method: "GET",
    url: url.href,
    headers: get.range === undefined ? {} : { range: get.range },
    // Range is among the headers that the library does not sign by itself.
    allHeaders: true,
    accessKeyId: s3.accessKeyId,
    secretAccessKey: s3.secretAccessKey,
    service: "s3",
    region: "auto",
    datetime: new Date(get.issuedAt).toISOString().replace(/[:-]|\.\d{3}/g, ""),
    signQuery: true,
  });
  return (await signer.sign()).url.href;
}

//! Values of every encoding, readable and not, and what becomes of them.

use retention_operator::policy::encoding::Encoding;

use super::encoding::CUTOFF;

/// Values in a column, and what becomes of them.
pub(super) struct Values {
    pub(super) encoding: Encoding,
    pub(super) kinds: &'static [&'static str],
    pub(super) zone: &'static str,
    pub(super) cutoff: &'static str,
    pub(super) go: &'static [&'static str],
    pub(super) stay: &'static [&'static str],
    pub(super) unreadable: &'static [&'static str],
}

/// Every type that holds characters, and domains over them.
pub(super) const TEXTS: &[&str] = &["text", "varchar(60)", "character(60)", "words", "padded"];

pub(super) const EPOCH_NUMBERS: Values = Values {
    encoding: Encoding::EpochSeconds,
    kinds: &["bigint", "integer", "whole"],
    zone: "UTC",
    cutoff: CUTOFF,
    go: &["1", "1699999999", "1700000000"],
    stay: &["1700000001", "2147483647"],
    unreadable: &["0", "-1", "-2147483648"],
};

pub(super) const SMALL_NUMBERS: Values = Values {
    encoding: Encoding::EpochSeconds,
    kinds: &["smallint"],
    zone: "UTC",
    cutoff: "1970-01-01T09:00:00Z",
    go: &["1", "32399"],
    stay: &["32400", "32767"],
    unreadable: &["0", "-32768"],
};

pub(super) const EPOCH_MILLIS: Values = Values {
    encoding: Encoding::EpochMillis,
    kinds: &["bigint", "numeric", "numeric(20, 3)", "double precision"],
    zone: "UTC",
    cutoff: CUTOFF,
    go: &["1", "1700000000249"],
    stay: &["1700000000250", "9007199254740992"],
    unreadable: &["0", "-5"],
};

pub(super) const EPOCH_MICROS: Values = Values {
    encoding: Encoding::EpochMicros,
    kinds: &["bigint"],
    zone: "UTC",
    cutoff: CUTOFF,
    go: &["1", "1700000000249999"],
    stay: &["1700000000250000", "9223372036854775807"],
    unreadable: &["0", "-9223372036854775808"],
};

pub(super) const EPOCH_FRACTIONS: Values = Values {
    encoding: Encoding::EpochSeconds,
    kinds: &["numeric", "double precision", "exact"],
    zone: "UTC",
    cutoff: CUTOFF,
    go: &["0.001", "1700000000", "1700000000.2499"],
    stay: &["1700000000.25", "1700000000.2501", "1e300"],
    unreadable: &["0", "-0.5", "NaN", "Infinity", "-Infinity"],
};

pub(super) const EPOCH_TEXTS: Values = Values {
    encoding: Encoding::EpochSeconds,
    kinds: TEXTS,
    zone: "UTC",
    cutoff: CUTOFF,
    go: &["1", "0001", "1700000000", "1700000000.2499999", "0.000001"],
    stay: &[
        "1700000000.25",
        "1700000000.250000",
        "1700000001",
        "999999999999999999",
    ],
    unreadable: &[
        "0",
        "0.0",
        "+1",
        "-1",
        " 1",
        "1e3",
        "1.",
        ".5",
        "1.2.3",
        "1,5",
        "0x10",
        "١٢٣",
        "NaN",
        "nan",
        "Infinity",
        "1234567890123456789",
        "12_000",
        "1\n",
        "x",
    ],
};

pub(super) const UUIDS: Values = Values {
    encoding: Encoding::UuidV7,
    kinds: &["uuid", "key", "text", "character(60)"],
    zone: "UTC",
    cutoff: "2022-02-22T19:22:22Z",
    go: &[
        "017f22e2-79af-7fff-bfff-ffffffffffff",
        "017F22E2-79AF-7CC3-98C4-DC0C0C07398F",
        "00000000-0001-7000-8000-000000000000",
    ],
    stay: &[
        "017f22e2-79b0-7000-8000-000000000000",
        "017F22E2-79B0-7CC3-98C4-DC0C0C07398F",
        "ffffffff-ffff-7fff-bfff-ffffffffffff",
    ],
    unreadable: &[
        "00000000-0000-0000-0000-000000000000",
        "00000000-0000-7cc3-98c4-dc0c0c07398f",
        "017f22e2-79af-4cc3-98c4-dc0c0c07398f",
        "017f22e2-79af-1cc3-98c4-dc0c0c07398f",
        "017f22e2-79af-7cc3-c8c4-dc0c0c07398f",
        "017f22e2-79af-7cc3-08c4-dc0c0c07398f",
        "00000001-ffff-ffff-ffff-ffffffffffff",
    ],
};

pub(super) const UUID_TEXTS: Values = Values {
    encoding: Encoding::UuidV7,
    kinds: TEXTS,
    zone: "UTC",
    cutoff: "2022-02-22T19:22:22Z",
    go: &["017f22e2-79AF-7fff-Bfff-ffffffffffff"],
    stay: &["017f22e2-79b0-7cc3-98c4-dc0c0c07398f"],
    unreadable: &[
        "017f22e279af7fffbfffffffffffffff",
        "{017f22e2-79af-7fff-bfff-ffffffffffff}",
        "017f22e2-79af-7fff-bfff-fffffffffff",
        "017f22e2-79af-7fff-bfff-fffffffffffff",
        "017f22e2-79af-7fff-bfff-ffffffffffffx",
        "017f22e2-79af-7fff-bfff-fffffffffffg",
        "urn:uuid:017f22e2-79af-7fff-bfff-ffffffffffff",
        " 017f22e2-79af-7fff-bfff-ffffffffffff",
    ],
};

pub(super) const ULIDS: Values = Values {
    encoding: Encoding::Ulid,
    kinds: TEXTS,
    zone: "UTC",
    cutoff: "2016-07-30T23:54:10.259Z",
    go: &[
        "01ARZ3NDEJZZZZZZZZZZZZZZZZ",
        "01arz3ndejzzzzzzzzzzzzzzzz",
        "0000000001TSV4RRFFQ69G5FAV",
    ],
    stay: &[
        "01ARZ3NDEK0000000000000000",
        "01ARZ3NDEKTSV4RRFFQ69G5FAV",
        "01arz3ndektsv4rrffq69g5fav",
        "7ZZZZZZZZZZZZZZZZZZZZZZZZZ",
    ],
    unreadable: &[
        "",
        "81ARZ3NDEJZZZZZZZZZZZZZZZZ",
        "01ARZ3NDEJZZZZZZZZZZZZZZZU",
        "0000000000TSV4RRFFQ69G5FAV",
        "01ARZ3NDEJZZZZZZZZZZZZZZZ",
        "01ARZ3NDEJZZZZZZZZZZZZZZZZ0",
        "O1ARZ3NDEJZZZZZZZZZZZZZZZZ",
        "01ARZ3NDEJZZZZZZZZZZZZZZZé",
        "01ARZ3NDEJ-ZZZZZZZZZZZZZZZ",
    ],
};

pub(super) const COMPACT_TEXTS: Values = Values {
    encoding: Encoding::Compact14,
    kinds: TEXTS,
    zone: "Europe/Berlin",
    cutoff: "2026-11-22T08:30:00.5Z",
    go: &["20261122093000", "00010101000000", "20240229235959"],
    stay: &["20261122093001", "99991231235959"],
    unreadable: &[
        "",
        "0",
        "00000101000000",
        "20260229000000",
        "19000229000000",
        "20261301000000",
        "20260001000000",
        "20260100000000",
        "20260132000000",
        "20260431000000",
        "20260101240000",
        "20260101006000",
        "20260101000060",
        "2026010100000",
        "202601010000000",
        "2026-01-010000",
        "20260101T00000",
        "2026010100000x",
    ],
};

pub(super) const COMPACT_NUMBERS: Values = Values {
    encoding: Encoding::Compact14,
    kinds: &["bigint", "whole"],
    zone: "Europe/Berlin",
    cutoff: "2026-11-22T08:30:00.5Z",
    go: &["20261122093000", "10000101000000", "20240229235959"],
    stay: &["20261122093001", "99991231235959"],
    unreadable: &[
        // The second is a time in milliseconds: without its leading zero it would be one of the year 171.
        "0",
        "1711010101010",
        "20260229000000",
        "20261301000000",
        "20260101240000",
        "99991231235960",
        "100000101000000",
        "-20260101000000",
        "1700000000",
        "9223372036854775807",
    ],
};

pub(super) const ISO: Values = Values {
    encoding: Encoding::Iso8601,
    kinds: TEXTS,
    zone: "America/Los_Angeles",
    // 00:30:10.5 in Los Angeles.
    cutoff: "2026-11-22T08:30:10.5Z",
    go: &[
        "2026-11-21",
        "0001-01-01",
        "2024-02-29",
        "2026-11-22T00:29",
        "2026-11-22 00:30:10",
        "2026-11-22T00:30:10.499999999",
        "2026-11-22T08:29Z",
        "2026-11-22T08:30:10z",
        "2026-11-22 08:30:10.4Z",
        "2026-11-22T10:30:10.4+02:00",
        "2026-11-22T09:29+01",
        "2026-11-21T18:00:10.49-1430",
        "2026-11-23T08:29:10.49+23:59",
        "2026-11-22T08:30:10-00:00",
    ],
    stay: &[
        "2026-11-22",
        "9999-12-31",
        "2026-11-22T00:30",
        "2026-11-22T00:30:10.5",
        "2026-11-22T00:30:10.50",
        "2026-11-22T00:30:10.500000001",
        "2026-11-22 08:30:10",
        "2026-11-22T08:30Z",
        "2026-11-22T08:30:10.5Z",
        "2026-11-22T08:30:10.500Z",
        "2026-11-22T10:30:10.5+02:00",
        "2026-11-22T10:30:10.5000+0200",
        "2026-11-22T09:30+01",
        "2026-11-21T18:00:10.5-14:30",
        "2026-11-23T08:29:10.5+23:59",
        "9999-12-31T23:59:59.999999999Z",
    ],
    unreadable: &[
        "",
        "x",
        "2026",
        "2026-11",
        "2026-1-01",
        "20261122",
        "2026-11-22T",
        "2026-11-22T00",
        "2026-11-22T00:30:",
        "2026-11-22T00:30:10.",
        "2026-11-22T00:30:10.1234567890",
        "2026-11-22T00:30:10,5",
        "2026-01-01t00:30:10",
        "2026-01-01  00:30:10",
        "2026-01-01T24:00:00",
        "2026-01-01T00:60",
        "2026-01-01T00:30:60",
        "2026-02-29",
        "1900-02-29",
        "2026-04-31",
        "2026-00-10",
        "2026-13-10",
        "2026-01-00",
        "2026-01-32",
        "0000-01-01",
        "-2026-01-01",
        "10000-01-01",
        "2026-01-01Z",
        "2026-01-01+02:00",
        "2026-01-01T00:30:10+24:00",
        "2026-01-01T00:30:10+02:60",
        "2026-01-01T00:30:10+2",
        "2026-01-01T00:30:10+020",
        "2026-01-01T00:30:10 +02:00",
        "2026-01-01T00:30:10ZZ",
        "2026-01-01T00:30:10+02:00:00",
        "2026-01-01T00:30:10[UTC]",
        " 2026-01-01",
        "2026-01-01\n",
        "2026-01-01 BC",
        "infinity",
        "-infinity",
        "now",
        "yesterday",
        "epoch",
        "2026-01-01 00:30:10 PST",
        "01/01/2026",
        "1767225600",
    ],
};

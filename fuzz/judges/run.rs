// Has SQLite itself read and evaluate what is printed: one statement with one result, no parameter, nothing touched but the columns
// of the one table, no function called but those that read their arguments alone, and no row on which it fails.

use std::{
    ffi::{CStr, CString, c_char, c_int, c_void},
    ptr,
};

use libsqlite3_sys as ffi;

const FUNCTIONS: &[&str] = &[
    "typeof", "lower", "upper", "trim", "length", "substr", "coalesce", "nullif", "max", "min", "json_valid", "json_type",
    "json_remove", "instr", "char", "glob", "->", "->>",
];

/// Values of every kind, as SQL.
const VALUES: &[&str] = &[
    "NULL", "0", "-1", "9223372036854775807", "-9223372036854775808", "1.5", "-0.0", "9e999", "'open'", "''", "'12'", "'-1e3'", "'true'",
    "'{\"a\": {\"b\": [1, null]}, \"x\": \"y\"}'", "'[1, 2]'", "'null'", "x''", "x'00ff'", "x'7b7d'", "CAST(x'ff' AS TEXT)", "'☃'", "'*[?'",
];

/// A database in memory with a table of these columns and some rows.
struct Database(*mut ffi::sqlite3);

impl Drop for Database {
    fn drop(&mut self) {
        // SAFETY: the handle is this value's own, and no statement of it is left.
        unsafe { ffi::sqlite3_close(self.0) };
    }
}

struct Statement(*mut ffi::sqlite3_stmt);

impl Drop for Statement {
    fn drop(&mut self) {
        // SAFETY: the statement is this value's own.
        unsafe { ffi::sqlite3_finalize(self.0) };
    }
}

/// `Err`: what SQLite says against it.
pub fn expression(printed: &str, columns: &[(String, String)]) -> Result<(), String> {
    let database = Database::new(columns)?;
    // What was denied, if anything.
    let mut denied: Option<String> = None;
    // SAFETY: `denied` outlives the only statement that is prepared while the authorizer is set.
    unsafe { ffi::sqlite3_set_authorizer(database.0, Some(authorize), ptr::from_mut(&mut denied).cast()) };
    let judged = database.evaluate(printed);
    // SAFETY: takes the authorizer away before `denied` goes.
    unsafe { ffi::sqlite3_set_authorizer(database.0, None, ptr::null_mut()) };
    match denied {
        Some(what) => Err(what),
        None => judged,
    }
}

impl Database {
    fn new(columns: &[(String, String)]) -> Result<Self, String> {
        let mut handle = ptr::null_mut();
        // SAFETY: the name ends with a NUL, the handle is written once.
        let opened = unsafe { ffi::sqlite3_open(c":memory:".as_ptr(), &raw mut handle) };
        let database = Self(handle);
        if opened != ffi::SQLITE_OK {
            return Err("no database".to_owned());
        }
        let declared: Vec<String> = columns
            .iter()
            .map(|(name, declared)| format!("\"{}\" {declared}", name.replace('"', "\"\"")))
            .collect();
        database.execute(&format!("CREATE TABLE x ({})", declared.join(", ")))?;
        for row in 0..VALUES.len() {
            let values: Vec<&str> = (0..columns.len()).map(|n| VALUES[(row + n * 5) % VALUES.len()]).collect();
            database.execute(&format!("INSERT INTO x VALUES ({})", values.join(", ")))?;
        }
        Ok(database)
    }

    fn execute(&self, sql: &str) -> Result<(), String> {
        let (statement, _) = self.prepare(sql)?;
        self.step(&statement, ffi::SQLITE_DONE).map(|_| ())
    }

    fn prepare(&self, sql: &str) -> Result<(Statement, usize), String> {
        let text = CString::new(sql).map_err(|_| "a NUL".to_owned())?;
        let mut statement = ptr::null_mut();
        let mut tail: *const c_char = ptr::null();
        // SAFETY: text and the places for the answers live until the end of the call.
        let code = unsafe { ffi::sqlite3_prepare_v2(self.0, text.as_ptr(), -1, &raw mut statement, &raw mut tail) };
        let statement = Statement(statement);
        if code != ffi::SQLITE_OK {
            return Err(self.message(sql));
        }
        // SAFETY: the tail points into the text.
        let left = unsafe { CStr::from_ptr(tail) }.to_bytes().len();
        Ok((statement, left))
    }

    fn step(&self, statement: &Statement, last: c_int) -> Result<bool, String> {
        // SAFETY: the statement is a prepared one.
        match unsafe { ffi::sqlite3_step(statement.0) } {
            ffi::SQLITE_ROW => Ok(true),
            code if code == last => Ok(false),
            _ => Err(self.message("a row")),
        }
    }

    fn message(&self, of: &str) -> String {
        // SAFETY: the message is read before anything else happens to the handle.
        let text = unsafe { CStr::from_ptr(ffi::sqlite3_errmsg(self.0)) };
        format!("{} for {of}", text.to_string_lossy())
    }

    fn evaluate(&self, printed: &str) -> Result<(), String> {
        // Between the two words it must be one expression: a comment or a second column would show here.
        let (statement, left) = self.prepare(&format!("SELECT {printed}, 4711 FROM x AS \"t\""))?;
        // SAFETY: the statement is a prepared one.
        let (columns, parameters, reads) = unsafe {
            (
                ffi::sqlite3_column_count(statement.0),
                ffi::sqlite3_bind_parameter_count(statement.0),
                ffi::sqlite3_stmt_readonly(statement.0),
            )
        };
        if (left, columns, parameters, reads != 0) != (0, 2, 0, true) {
            return Err(format!("{left} bytes of another statement, {columns} results, {parameters} parameters"));
        }
        let mut rows = 0;
        while self.step(&statement, ffi::SQLITE_DONE)? {
            rows += 1;
            // SAFETY: the statement stands on a row.
            let (kind, number) = unsafe { (ffi::sqlite3_column_type(statement.0, 1), ffi::sqlite3_column_int(statement.0, 1)) };
            if (kind, number) != (ffi::SQLITE_INTEGER, 4711) {
                return Err("another second result".to_owned());
            }
        }
        if rows == VALUES.len() {
            Ok(())
        } else {
            Err(format!("{rows} rows of {}", VALUES.len()))
        }
    }
}

/// Lets statements read the table `x` and call the functions of the list.
unsafe extern "C" fn authorize(
    denied: *mut c_void,
    action: c_int,
    first: *const c_char,
    second: *const c_char,
    _: *const c_char,
    _: *const c_char,
) -> c_int {
    let text = |from: *const c_char| {
        if from.is_null() {
            String::new()
        } else {
            // SAFETY: SQLite's texts end with a NUL and live through the call.
            unsafe { CStr::from_ptr(from) }.to_string_lossy().into_owned()
        }
    };
    let allowed = match action {
        ffi::SQLITE_SELECT => true,
        // Of a SELECT in parentheses the table has no name.
        ffi::SQLITE_READ => ["x", ""].contains(&text(first).as_str()),
        ffi::SQLITE_FUNCTION => FUNCTIONS.contains(&text(second).as_str()),
        _ => false,
    };
    if allowed {
        return ffi::SQLITE_OK;
    }
    // SAFETY: it is the `denied` of the call that set this authorizer.
    let denied = unsafe { &mut *denied.cast::<Option<String>>() };
    *denied = Some(format!("action {action} on {:?} {:?}", text(first), text(second)));
    ffi::SQLITE_DENY
}

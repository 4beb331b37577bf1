package ledger

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	bolt "go.etcd.io/bbolt"

	"capfleet/internal/fault"
)

// The file says what it is in a namespace of its own.
const metaNamespace Namespace = "ledger"

const (
	metaFormat = "format" // its value is formatName
	metaSchema = "schema" // 8 bytes, big endian
	formatName = "capfleet ledger"
	// firstSchema is the schema of a file to which no migration was applied.
	firstSchema = 1
)

// Migration brings a file from schema To-1 to schema To. The daemon lists them
// in order, the first with To 2; the last is the schema of this build. A new
// namespace needs none. Before the first one that a file needs is applied, the
// file is copied to <path>.schema-<n> and the copy checked; all that
// are needed are then applied in one transaction.
type Migration struct {
	To   int
	Name string
	// Apply may use the namespaces declared in Options that the file has.
	Apply func(*Tx) error
}

func schemaOf(migrations []Migration) int { return firstSchema + len(migrations) }

func initMeta(tx *bolt.Tx, schema int) error {
	b, err := tx.CreateBucket([]byte(metaNamespace))
	if err != nil {
		return err
	}
	return errors.Join(b.Put([]byte(metaFormat), []byte(formatName)), putSchema(b, schema))
}

func putSchema(b *bolt.Bucket, schema int) error {
	return b.Put([]byte(metaSchema), binary.BigEndian.AppendUint64(nil, uint64(schema)))
}

// checkFile looks for damage that can be seen without reading the whole file:
// a file that is shorter than its pages, one that is not ours, and namespaces
// whose outermost pages cannot be read.
func checkFile(bdb *bolt.DB, path string) error {
	return guard(func() error {
		return bdb.View(func(tx *bolt.Tx) error {
			if size, err := fileSize(path); err != nil {
				return err
			} else if size < tx.Size() {
				return &damageError{fmt.Sprintf("%d bytes long, its pages take %d", size, tx.Size())}
			}
			meta := tx.Bucket([]byte(metaNamespace))
			if meta == nil || string(meta.Get([]byte(metaFormat))) != formatName || len(meta.Get([]byte(metaSchema))) != 8 {
				return &fault.Error{Kind: fault.Storage, Act: "open ledger " + path,
					Err:  errors.New("it is a bbolt file, but not a ledger of fleetd"),
					Next: "name another state directory"}
			}
			return tx.ForEach(func(_ []byte, b *bolt.Bucket) error {
				if b == nil {
					return nil
				}
				c := b.Cursor()
				c.First()
				c.Last()
				return nil
			})
		})
	})
}

// migrate refuses a newer file and brings an older one up to date.
func (db *DB) migrate(migrations []Migration) error {
	act := "open ledger " + db.path
	want, have := schemaOf(migrations), 0
	err := guard(func() error {
		return db.bolt.View(func(tx *bolt.Tx) error {
			have = schemaIn(tx)
			return nil
		})
	})
	switch {
	case err != nil:
		return openError(act, err)
	case have == want:
		return nil
	case have > want:
		return &fault.Error{Kind: fault.Storage, Act: act,
			Err: unusable{fmt.Errorf("a newer fleetd wrote it: schema %d, this one knows up to %d", have, want)}}
	case have < firstSchema:
		return damaged(act, fmt.Errorf("schema %d", have))
	}

	backup := backupName(db.path, have)
	if err := db.backupFile(context.Background(), backup); err != nil {
		return fault.Wrap(fault.Storage, "copy ledger "+db.path+" before its schema is changed", err)
	}
	err = guard(func() error {
		return db.bolt.Update(func(btx *bolt.Tx) error {
			for _, m := range migrations[have-firstSchema:] {
				if err := db.call(m.Apply, newTx(db, btx)); err != nil {
					return fmt.Errorf("migrate to schema %d (%s): %w", m.To, m.Name, err)
				}
			}
			return putSchema(btx.Bucket([]byte(metaNamespace)), want)
		})
	})
	if err != nil {
		return openError(act, fmt.Errorf("%w; the file is as it was, and %s is a copy of it", err, backup))
	}
	db.log.Info("ledger migrated", "file", db.path, "from", have, "to", want, "backup", backup)
	return nil
}

func backupName(path string, schema int) string { return fmt.Sprintf("%s.schema-%d", path, schema) }

// Package settings reads a program's settings from the environment into structs, and reports
// everything that is wrong with all of them at once.
//
// A field says its key, default and meaning in tags:
//
//	Listen string `env:"GATEWAY_LISTEN" envDefault:"127.0.0.1:5003" help:"where HTTP is served"`
//
// Every key may also be given as KEY_FILE, the path of a file that holds the value: the usual way
// to hand a secret to a container.
package settings

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"

	"github.com/caarlos0/env/v11"
)

// Prefix is in front of every key.
const Prefix = "CARTWRIGHT_"

const fileSuffix = "_FILE"

// Checker is a settings struct with rules that no tag can say, or one inside it.
type Checker interface {
	// Check returns everything that is wrong, each naming its key.
	Check() []error
}

// Load fills dst, a pointer to a struct, from the environment in the form of os.Environ. Its
// error lists every fault, one a line.
func Load(environ []string, dst any) error {
	values, faults := withFiles(environ)
	err := env.ParseWithOptions(dst, env.Options{Prefix: Prefix, Environment: values})
	var several env.AggregateError
	switch {
	case errors.As(err, &several):
		for _, e := range several.Errors {
			faults = append(faults, plain(e, dst))
		}
	case err != nil:
		faults = append(faults, plain(err, dst))
	}
	if len(faults) == 0 {
		faults = check(reflect.ValueOf(dst).Elem())
	}
	if len(faults) == 0 {
		return nil
	}
	lines := make([]string, len(faults))
	for i, f := range faults {
		lines[i] = "  " + f.Error()
	}
	return fmt.Errorf("wrong settings:\n%s", strings.Join(lines, "\n"))
}

// check asks a struct, and each named struct inside it, for what is wrong with it.
func check(v reflect.Value) (faults []error) {
	if c, ok := v.Addr().Interface().(Checker); ok {
		faults = c.Check()
	}
	for i := range v.NumField() {
		if f := v.Type().Field(i); f.IsExported() && !f.Anonymous && f.Type.Kind() == reflect.Struct {
			faults = append(faults, check(v.Field(i))...)
		}
	}
	return faults
}

// withFiles reads the files that KEY_FILE names. A value given both ways is a fault: nobody could
// tell which one counts.
func withFiles(environ []string) (values map[string]string, faults []error) {
	values = env.ToMap(environ)
	for _, key := range slices.Sorted(maps.Keys(values)) {
		path := values[key]
		plainKey, isFile := strings.CutSuffix(key, fileSuffix)
		if !isFile || !strings.HasPrefix(key, Prefix) || path == "" {
			continue
		}
		if values[plainKey] != "" {
			faults = append(faults, fmt.Errorf("%s and %s are both set", plainKey, key))
			continue
		}
		content, err := os.ReadFile(path)
		if err != nil {
			faults = append(faults, fmt.Errorf("%s: %w", key, err))
			continue
		}
		values[plainKey] = strings.TrimSpace(string(content))
	}
	return values, faults
}

// plain words an error of the library so that it names the key and not the Go field. Values are
// not repeated: they may be secret.
func plain(err error, dst any) error {
	var parse env.ParseError
	var missing env.VarIsNotSetError
	var empty env.EmptyVarError
	switch {
	case errors.As(err, &missing):
		return fmt.Errorf("%s is not set", missing.Key)
	case errors.As(err, &empty):
		return fmt.Errorf("%s is empty", empty.Key)
	case errors.As(err, &parse):
		return fmt.Errorf("the value of %s is no %s", strings.Join(keysOf(dst, parse), " or "), parse.Type)
	}
	return err
}

// Setting describes one key, for lists and documents.
type Setting struct {
	Key, Default, Help string
	Required           bool
}

// Describe lists the settings of a struct in their order.
func Describe(dst any) (all []Setting) {
	walk(reflect.TypeOf(dst), func(f reflect.StructField, key, rules string) {
		required := strings.Contains(rules, "required") || strings.Contains(rules, "notEmpty")
		all = append(all, Setting{key, f.Tag.Get("envDefault"), f.Tag.Get("help"), required})
	})
	return all
}

// keysOf finds the key of a field that could not be parsed: the library tells the field only.
func keysOf(dst any, e env.ParseError) (keys []string) {
	walk(reflect.TypeOf(dst), func(f reflect.StructField, key, _ string) {
		if f.Name == e.Name && f.Type == e.Type {
			keys = append(keys, key)
		}
	})
	return keys
}

// walk visits every field that is a setting, also those of structs inside.
func walk(t reflect.Type, visit func(f reflect.StructField, key, rules string)) {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	for i := range t.NumField() {
		f := t.Field(i)
		tag, ok := f.Tag.Lookup("env")
		switch {
		case ok:
			key, rules, _ := strings.Cut(tag, ",")
			visit(f, Prefix+key, rules)
		case f.Type.Kind() == reflect.Struct:
			walk(f.Type, visit)
		}
	}
}

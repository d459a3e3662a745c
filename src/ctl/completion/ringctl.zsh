#compdef ringctl
# zsh completion for ringctl: asks the program itself what may follow.

_ringctl()
{
    local out directive line
    local -a candidates
    out=$("${words[1]}" __complete "${(@)words[2,CURRENT]}" 2>/dev/null) || return
    directive=${out##*:}
    for line in "${(@f)out%:*}"; do
        [[ -z ${line} ]] && continue
        # _describe separates word and description by a colon.
        line=${line//:/\\:}
        candidates+=("${line/$'\t'/:}")
    done
    compset -P '*='
    _describe -V 'completions' candidates && return
    # 4: nothing else may stand here. Otherwise file names may.
    (( directive == 0 )) && _files
}

compdef _ringctl ringctl

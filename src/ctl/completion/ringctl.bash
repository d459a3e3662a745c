# bash completion for ringctl: asks the program itself what may follow.

_ringctl()
{
    local line=${COMP_LINE:0:COMP_POINT} words word out directive candidate
    read -ra words <<<"${line}"
    # A blank at the end begins a new, empty word.
    [[ ${line} == *[[:space:]] ]] && words+=("")
    word=${words[${#words[@]}-1]}
    out=$("${words[0]}" __completeNoDesc "${words[@]:1}" 2>/dev/null) || return
    directive=${out##*:}
    out=${out%:*}
    # What bash completes begins behind the last = or colon.
    word=${word##*[=:]}
    COMPREPLY=()
    while IFS= read -r candidate; do
        [[ -n ${candidate} && ${candidate} == "${word}"* ]] && COMPREPLY+=("${candidate}")
    done <<<"${out}"
    # 4: nothing else may stand here. Otherwise file names may.
    if [[ ${directive} -eq 0 && ${#COMPREPLY[@]} -eq 0 ]]; then
        compopt -o default 2>/dev/null
    fi
}

complete -F _ringctl ringctl
